"""Teaches Schemathesis to write NDJSON, the second media type of POST /events/bulk."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_ctx, value):
    return json.dumps(value).encode()
