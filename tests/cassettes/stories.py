"""What is on the cassettes: a recorded incident decided with a model, and twelve questions retold
by one. The recorder and the tests tell the same stories.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from loop4.agents.planner.budget import Limits
from loop4.agents.planner.endpoint import ModelSettings
from loop4.agents.planner.model_planner import ModelPlanner
from loop4.evals.replay import Replay, replay
from loop4.graphs.conversation.model_answerer import ModelAnswerer
from loop4.graphs.conversation.sheet import Answer
from loop4.lab.folder import make_operations
from loop4.settings import Secret
from loop4.tools.backends.recording_file import read_recording
from tests.graphs.conversation.conftest import stopped_in_the_middle

MODEL = "SmolLM2-135M-Instruct"
KEY = "sk-cassette-0a1b2c3d4e5f6a7b8c9d"  # sent, and never on a cassette
INCIDENTS = Path(str(files("loop4.evals") / "incidents"))
RECORDINGS = (
    "bad-deploy-1.jsonl.gz",
    "crash-loop-1.jsonl.gz",
    "dependency-change-5.jsonl.gz",
    "dependency-down-1.jsonl.gz",
    "quiet-1.jsonl.gz",
)
TWELVE_ON = "dependency-change-5.jsonl.gz"
QUESTIONS = (
    "What services are there, and how are they?",
    "what is going on?",
    "since when?",
    "why?",
    "how much error budget is left for payments?",
    "what changed recently?",
    "may you restart payments-2 now?",
    "why not?",
    "who could allow it?",
    "may you roll back payments?",
    "what did you do?",
    "what does the runbook say about a bad deploy?",
)
NOWHERE = "http://127.0.0.1:9/v1"  # nothing listens here: all answers are on the cassettes
# a slow model on a busy machine is waited for; what stands in the prompts is not changed by it
LIMITS = Limits(steps=2, answer_tokens=256, seconds=900.0, prose_seconds=900.0)


def planner_at(base_url: str, *, max_retries: int = 0) -> ModelPlanner:
    """The model planner of the stories; from a cassette, any address will do, and none is asked
    twice.
    """
    settings = ModelSettings(
        model=MODEL,
        base_url=base_url,
        api_key=Secret(KEY),
        timeout_s=600.0,
        max_retries=max_retries,
        answer_tokens=LIMITS.answer_tokens,
    )
    return ModelPlanner(settings, limits=LIMITS)


async def replay_story(name: str, root: Path, planner: ModelPlanner | None) -> Replay:
    """One shipped recording, decided with the planner, or without a model."""
    copy = make_operations(root / "operations")
    recording = read_recording(INCIDENTS / name)
    return await replay(recording, operations=copy.root, data=root / "data", planner=planner)


async def chat_story(root: Path, planner: ModelPlanner | None) -> list[Answer]:
    """The twelve questions on a recorded incident that stands still."""
    recording = read_recording(INCIDENTS / TWELVE_ON)
    async with stopped_in_the_middle(recording, root) as talk:
        if planner is not None:
            talk.conversation.answerer = ModelAnswerer(planner)
        answers = [await talk.conversation.ask(q) for q in QUESTIONS]
        if planner is not None:
            await planner.close()
        return answers
