"""Asks a server as people do, with OpenAI's own client: `openai_client.py BASE_URL`."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="secret", max_retries=0)
assert [model.id for model in client.models.list()] == ["arithmetic"]
assert client.models.retrieve("arithmetic").id == "arithmetic"

answer = client.completions.create(model="arithmetic", prompt=["abc", "w"], max_tokens=5, logprobs=2, extra_body={"top_k": 5})
assert [choice.text for choice in answer.choices] == ["defgh", "xyz"], answer
assert [choice.finish_reason for choice in answer.choices] == ["length", "stop"]
assert answer.choices[0].logprobs.tokens == list("defgh")
assert answer.usage.completion_tokens == 9

parts = list(client.completions.create(
    model="arithmetic", prompt="~", stream=True, stream_options={"include_usage": True}))
assert "".join(part.choices[0].text for part in parts if part.choices) == "你é€😀"
assert parts[-1].usage.prompt_tokens == 2

messages = [{"role": "developer", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
chat = client.chat.completions.create(
    model="arithmetic", messages=messages, max_completion_tokens=3, logprobs=True, top_logprobs=2, n=2, seed=1)
assert [choice.message.content for choice in chat.choices] == ["\x0b\x0c\r"] * 2
assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 2

text = ""
with client.chat.completions.create(model="arithmetic", messages=messages, max_tokens=3, stream=True) as stream:
    for part in stream:
        text += part.choices[0].delta.content or ""
assert text == "\x0b\x0c\r"

schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
chat = client.chat.completions.create(
    model="arithmetic", messages=messages, max_tokens=40,
    response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}})
assert "true" in chat.choices[0].message.content or "false" in chat.choices[0].message.content


def refused(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind} did not come")


complete = client.completions.create
error = refused(openai.BadRequestError, lambda: complete(model="arithmetic", prompt="a", suffix="b"))
assert error.param == "suffix" and error.code == "unsupported_parameter" and "suffix" in error.message, error
refused(openai.NotFoundError, lambda: complete(model="other", prompt="a"))
stranger = openai.OpenAI(base_url=sys.argv[1], api_key="wrong", max_retries=0)
refused(openai.AuthenticationError, lambda: stranger.models.list())
stream = complete(model="arithmetic", prompt="\x01", stream=True)
refused(openai.APIError, lambda: list(stream))
