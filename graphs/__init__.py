"""The only package that imports langgraph, so this runs before langgraph reads its environment."""

import os

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")
