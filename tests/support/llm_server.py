"""A loopback server that speaks the OpenAI protocol, and misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-loopback-0123456789"


class Llm:
    """What the server does, and what was asked of it.

    Attributes:
        reply: from the text that was asked about to the model's answer.
        misbehave: called with (number of the request, text, handler); answers and returns True, or returns False.
        requests: bodies of all requests, with the time each arrived ("at", monotonic) and its Authorization ("key").
        most_at_once: requests that were under way together.
        url: for --base-url.
    """

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply
        self.misbehave: Callable[[int, str, Any], bool] = lambda number, text, handler: False
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self.seconds = 0.0
        self.served_by: str | None = None
        self.finish_reason = "stop"
        self.under_way = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def asked(self) -> list[str]:
        """The texts that were asked about, in the order of the requests."""
        return [text_of(request) for request in self.requests]


def text_of(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"].rsplit("Text:\n", 1)[-1])


class Handler(BaseHTTPRequestHandler):
    llm: Llm
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an acknowledgement

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        llm = self.llm
        with llm.lock:
            number = len(llm.requests)
            llm.requests.append({**body, "at": time.monotonic(), "key": self.headers.get("Authorization", "")})
            llm.under_way += 1
            llm.most_at_once = max(llm.most_at_once, llm.under_way)
        try:
            if not llm.misbehave(number, text_of(body), self):
                time.sleep(llm.seconds)
                self.answer(body, llm.reply(text_of(body)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with llm.lock:
                llm.under_way -= 1

    def answer(self, body: dict[str, Any], content: str | None, **choice: Any) -> None:
        self.send(200, completion(body, content, self.llm, **choice))

    def send(self, status: int, value: Any, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fail(self, status: int, message: str = "no", **headers: str) -> bool:
        self.send(status, {"error": {"message": message, "type": "x", "code": None}}, **headers)
        return True

    def log_message(self, *_: Any) -> None:
        pass


def completion(body: dict[str, Any], content: str | None, llm: Llm, **choice: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": llm.served_by or body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": llm.finish_reason,
                "message": {"role": "assistant", "content": content},
                **choice,
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


@contextmanager
def serve(reply: Callable[[str], str]) -> Iterator[Llm]:
    """Runs the server for as long as the block takes."""
    llm = Llm(reply)
    handler = type("Bound", (Handler,), {"llm": llm})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    llm.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield llm
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
