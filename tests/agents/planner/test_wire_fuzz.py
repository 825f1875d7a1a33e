"""Whatever bytes an endpoint sends: an answer or one EndpointError, and the talk goes on."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loop4.agents.planner.endpoint import Answer, Endpoint, EndpointError, Message, Request
from loop4.agents.planner.port import ProseFacts
from tests.agents.conftest import planner_on, run
from tests.agents.model_server import Say

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=12)
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
CHUNK = st.fixed_dictionaries(
    {},
    optional={
        "id": JUNK,
        "object": JUNK,
        "model": JUNK,
        "usage": st.one_of(
            JUNK, st.fixed_dictionaries({"prompt_tokens": JUNK, "completion_tokens": JUNK})
        ),
        "error": JUNK,
        "choices": st.one_of(
            JUNK,
            st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "index": JUNK,
                        "finish_reason": JUNK,
                        "delta": st.one_of(
                            JUNK,
                            st.fixed_dictionaries(
                                {},
                                optional={
                                    "role": JUNK,
                                    "content": JUNK,
                                    "tool_calls": st.one_of(
                                        JUNK,
                                        st.lists(
                                            st.fixed_dictionaries(
                                                {},
                                                optional={
                                                    "index": JUNK,
                                                    "id": JUNK,
                                                    "function": JUNK,
                                                },
                                            ),
                                            max_size=2,
                                        ),
                                    ),
                                },
                            ),
                        ),
                    },
                ),
                max_size=2,
            ),
        ),
    },
)
LINES = st.lists(
    st.one_of(
        CHUNK.map(lambda c: f"data: {json.dumps(c)}"),
        st.text(max_size=40).map(lambda t: f"data: {t}"),
        st.text(max_size=20),
        st.just("data: [DONE]"),
        st.just("event: error"),
    ),
    max_size=6,
)
DEEP = "data: " + '{"choices":' + "[" * 3_000 + "]" * 3_000 + "}"


async def outcome(endpoint: Endpoint) -> Answer | EndpointError:
    try:
        return await endpoint.ask(Request([Message("user", "hello")]))
    except EndpointError as error:
        return error
    finally:
        await endpoint.close()


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
@example([DEEP])
@example(['data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}'])
@example(['data: {"choices":[{"delta":{"tool_calls":[{"index":"x"}]}}]}'])
@example(['data: {"choices":[],"usage":{"prompt_tokens":"many","completion_tokens":null}}'])
def test_any_stream_is_an_answer_or_one_plain_error(lines: list[str]) -> None:
    with planner_on(lambda b: Say(body="\n\n".join([*lines, ""]))) as (planner, _):
        came = run(outcome(planner.turns.endpoint))
    if isinstance(came, EndpointError):
        assert "\n" not in str(came)


@pytest.mark.parametrize(
    "body", [DEEP + "\n\n", "data: nothing\n\n", 'data: {"choices":[{"delta":[]}]}\n\n', "\0"]
)
def test_a_text_falls_back_to_its_template_whatever_came(body: str) -> None:
    facts = ProseFacts("orders fails 12 requests.", incident_id="INC-2026-001")

    async def told(kind: str) -> list[str]:
        try:
            return [s async for s in planner.stream(kind, facts)]
        finally:
            await planner.close()

    heard: list[str] = []
    with planner_on(lambda b: Say(body=body), tell=heard.append) as (planner, _):
        assert run(told("answer")) == [facts.template]
    (line,) = heard
    assert line.endswith("the playbook goes on without it")
    assert "\n" not in line
