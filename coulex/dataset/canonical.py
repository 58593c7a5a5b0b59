"""The one text that equal values share, so that equal sets have equal bytes and digests."""

import json
from typing import Any


def canonical(value: Any) -> str:
    """Return `value` as JSON: keys sorted, no number that is not finite."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
