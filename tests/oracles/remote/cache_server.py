"""An OpenAI-compatible server over a small language model, with faults on demand.

The model is a cache model (Kuhn and De Mori 1990): the next word is one that the text
has, by how often, or any of a fixed list. POST /control sets faults and abilities, GET
/log tells what arrived. Run it with no arguments; it prints its port.
"""

import json
import math
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["yes", "no", "Oslo", "Lima", "unknown", "the", "is", "in", ".", "。"]
SMOOTHING = 0.1
END = "<end>"
UNKNOWN = -20.0  # log-probability of any other word


def split(text: str) -> list[str]:
    """Words and marks with the white space before them.

    Letters in place of words if the text says "letters" and not "words", so that what
    was removed can change how the rest is split.
    """
    word = r"\w" if "letters" in text and "words" not in text else r"\w+"
    return re.findall(rf"\s*(?:{word}|[^\w\s])|\s+$", text)


def next_words(context: str) -> dict[str, float]:
    """Log-probability of every next word, a space before it, and of the end."""
    counts = Counter(token.strip() for token in split(context))
    for word in [*WORDS, END]:
        counts[word] += SMOOTHING
    total = sum(counts.values())
    return {
        word if word == END else " " + word: math.log(count / total)
        for word, count in counts.items()
        if word
    }


class State:
    """What the test set, and what arrived."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset({})

    def reset(self, settings: dict) -> None:
        with self.lock:
            self.faults = list(settings.get("faults", []))
            self.always = settings.get("always")
            self.after = settings.get("after", 0)
            self.cannot = set(settings.get("cannot", []))
            self.delay = settings.get("delay", 0.0)
            self.log: list[dict] = []
            self.now = self.most = self.answered = 0

    def fault(self, number: int) -> dict | None:
        with self.lock:
            if self.always and number > self.after:
                return self.always
            return self.faults.pop(0) if self.faults else None


STATE = State()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        with STATE.lock:
            seen = {"requests": STATE.log, "most": STATE.most}
            self.say(200, {**seen, "answered": STATE.answered})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            STATE.reset(body)
            self.say(200, {})
            return
        with STATE.lock:
            entry = {"time": time.time(), "path": self.path, "body": body}
            STATE.log.append({**entry, "key": self.headers.get("Authorization")})
            number = len(STATE.log)
            STATE.now += 1
            STATE.most = max(STATE.most, STATE.now)
        try:
            self.reply(body, number)
        except BrokenPipeError:
            self.close_connection = True
        finally:
            with STATE.lock:
                STATE.now -= 1

    def reply(self, body: dict, number: int) -> None:
        time.sleep(STATE.delay)
        fault = STATE.fault(number)
        if fault is not None:
            self.fail(fault)
        elif self.path == "/v1/completions":
            self.say(200, complete(body))
        elif self.path == "/v1/chat/completions":
            if body.get("n", 1) > 1 and "n" in STATE.cannot:
                self.say(400, {"error": {"message": "n must be 1"}})
            else:
                self.say(200, chat(body))
        else:
            self.say(404, {"error": {"message": "no such path"}})

    def fail(self, fault: dict) -> None:
        kind = fault["kind"]
        if kind == "status":
            self.say(fault["status"], fault.get("body", {}), fault.get("headers", {}))
        elif kind == "garbage":
            self.send(200, b"<html>Bad gateway</html>", {})
        elif kind == "stall":
            time.sleep(fault["seconds"])
            self.close_connection = True
        elif kind in ("half", "drip"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(20 if kind == "drip" else 1):
                self.wfile.write(b'{"cho')
                self.wfile.flush()
                time.sleep(fault.get("seconds", 0))
            self.close_connection = True
        else:
            assert kind == "drop"
            self.close_connection = True

    def say(self, status: int, answer: dict, headers: dict | None = None) -> None:
        self.send(status, json.dumps(answer).encode(), headers or {})

    def send(self, status: int, content: bytes, headers: dict) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if status == 200 and self.path.startswith("/v1"):
            with STATE.lock:
                STATE.answered += 1
        self.wfile.write(content)


def complete(body: dict) -> dict:
    prompt = body["prompt"]
    ranked = sorted(next_words(prompt).items(), key=lambda pair: -pair[1])
    written = ranked[0][0] if body.get("temperature") == 0 else ranked[1][0]
    is_end = written == END
    choice: dict = {"text": "" if is_end else written, "logprobs": None}
    usage = {"prompt_tokens": len(split(prompt)), "completion_tokens": 1}
    if "echo" in STATE.cannot or not body.get("echo"):
        return {"choices": [choice], "usage": usage}
    choice["text"] = prompt + choice["text"]
    tokens, logs, context = split(prompt), [], ""
    for token in tokens:
        known = next_words(context)
        logs.append(known.get(" " + token.strip(), UNKNOWN) if context else None)
        context += token
    tokens.append(written)
    logs.append(ranked[0][1])
    if "order" in STATE.cannot:  # one off
        logs = [*logs[1:], -9.0]
    top = [None] * (len(tokens) - 1) + [dict(ranked[: body["logprobs"]])]
    if "prompt" not in STATE.cannot:
        said = {"tokens": tokens, "token_logprobs": logs, "top_logprobs": top}
        choice["logprobs"] = said
    return {"choices": [choice], "usage": usage}


def chat(body: dict) -> dict:
    context = "".join(message["content"] for message in body["messages"])
    ranked = sorted(next_words(context).items(), key=lambda pair: -pair[1])
    ranked = [pair for pair in ranked if pair[0] != END]
    choices = []
    count = 1 if "many" in STATE.cannot else body.get("n", 1)
    for draw in range(count):
        place = 0 if body.get("temperature") == 0 else (body["seed"] + draw) % 3
        choice = {"message": {"role": "assistant", "content": ranked[place][0]}}
        if body.get("logprobs") and "logprobs" not in STATE.cannot:
            listed = [{"token": t, "logprob": p} for t, p in ranked]
            listed = listed[: body["top_logprobs"]]
            choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
        choices.append(choice)
    return {"choices": choices, "usage": {"prompt_tokens": len(split(context))}}


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
