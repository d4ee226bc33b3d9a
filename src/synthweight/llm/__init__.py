"""An LLM behind an OpenAI-compatible server: prompts, requests, replies, journal.

`client` sends and retries one request, `request_pool` keeps many in flight. Nothing here knows a loss.
"""
