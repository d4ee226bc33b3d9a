"""An LLM behind an OpenAI-compatible server: prompts, requests, replies, journal.

Nothing here knows a loss.
"""
