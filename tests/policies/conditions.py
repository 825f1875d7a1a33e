"""Conditions for Hypothesis: every operator of the subset over facts that every write declares."""

from __future__ import annotations

from hypothesis import strategies as st

from loop4.policies.tree import Binary, Constant, ListOf, Name, Tree, Unary

BOOLS = ("service_known", "context_complete", "forward_change", "fleet_paused", "deploy_frozen")
INTS = ("tier", "evidence_sources", "failed_remediations", "flap_limit", "traffic_share_bp")
WORDS = {"runbook_match": ("none", "typed"), "requester_kind": ("agent", "person")}

numbers: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.sampled_from(INTS).map(lambda name: Name(name, 0)),
        st.integers(-3, 3).map(lambda value: Constant(value, 0)),
    ),
    lambda inner: st.one_of(
        st.builds(Binary, st.sampled_from(["+", "-"]), inner, inner, st.just(0)),
        st.builds(Unary, st.just("-"), inner, st.just(0)),
    ),
    max_leaves=4,
)
lists = st.lists(
    st.integers(-3, 3).map(lambda value: Constant(value, 0)), min_size=1, max_size=3
).map(lambda values: ListOf(tuple(values), 0))
words = st.sampled_from(sorted(WORDS)).flatmap(
    lambda name: st.builds(
        Binary,
        st.sampled_from(["==", "!="]),
        st.just(Name(name, 0)),
        st.sampled_from(WORDS[name]).map(lambda word: Constant(word, 0)),
        st.just(0),
    )
)
conditions: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.sampled_from(BOOLS).map(lambda name: Name(name, 0)),
        st.booleans().map(lambda value: Constant(value, 0)),
        st.builds(
            Binary,
            st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
            numbers,
            numbers,
            st.just(0),
        ),
        st.builds(Binary, st.just("in"), numbers, lists, st.just(0)),
        words,
    ),
    lambda inner: st.one_of(
        st.builds(
            Binary, st.sampled_from(["&&", "&&", "||", "==", "!="]), inner, inner, st.just(0)
        ),
        st.builds(Unary, st.just("!"), inner, st.just(0)),
    ),
    max_leaves=10,
)
