"""The lab as a system behind the ports: loopback HTTP, like any other system.

Reading and acting are separate identities: `lab_world` holds the read token only, `lab_writer` the
act token only. Reads are tried again while nobody answers, within their deadline; writes never are.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from loop4.domain import Json, JsonObject
from loop4.errors import BackendError, Conflict, InputError, QueryError, Refused, Unreachable
from loop4.tools.backends.ports import (
    Change,
    Inventory,
    LogRecord,
    Series,
    Span,
    Workload,
    World,
    WriteResult,
)
from loop4.tools.backends.prometheus_json import parse_answer

READ_TIMEOUT_S = 3.0
READ_DEADLINE_S = 6.0
WRITE_TIMEOUT_S = 8.0
CONNECTION_FILE = "lab.json"
