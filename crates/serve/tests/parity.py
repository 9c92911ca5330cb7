"""Renders conversations by chat templates as transformers does: JSON in, JSON out."""

import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

rendered = []
for case in json.load(sys.stdin):
    try:
        texts, _ = render_jinja_template(
            conversations=[case["messages"]],
            chat_template=case["template"],
            add_generation_prompt=case["add_generation_prompt"],
            **case["special"],
            **case["arguments"],
        )
        rendered.append({"text": texts[0]})
    except Exception as error:
        rendered.append({"error": str(error)})
json.dump(rendered, sys.stdout)
