"""Between an operator and the API server: counts what is asked, and kills the operator at its n-th write.

Plain HTTP on one side, the API server's TLS on the other. A write is what is not GET; the lease and the events are not
counted: nothing of a cluster follows from them. The n-th one is not handed on: the operator dies before it, as a
process does between two writes. Run inside the box's network; prints counts as JSON when it is told to (SIGUSR1).
"""

import argparse
import http.client
import json
import os
import signal
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

state = {"reads": 0, "watches": 0, "writes": 0, "last": []}
lock = threading.Lock()


def counted(path):
    return "/leases/" not in path and "/events" not in path


class Between(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    given = None

    def log_message(self, *_):
        pass

    def pass_on(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else None
        if counted(self.path):
            with lock:
                kind = "writes" if self.command != "GET" else "watches" if "watch=true" in self.path else "reads"
                state[kind] += 1
                state["last"] = (state["last"] + [f"{self.command} {self.path}"])[-50:]
                fatal = kind == "writes" and state["writes"] == self.given.dies_at
            if fatal:
                try:
                    os.kill(int(Path(self.given.pid).read_text()), signal.SIGKILL)
                except (OSError, ValueError):
                    pass
                self.close_connection = True
                return
        connection = http.client.HTTPSConnection(self.given.server, context=self.given.context, timeout=330)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(key, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while part := answer.read1(65536):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--authority", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dies-at", type=int, default=0)
    parser.add_argument("--pid", help="the file with the operator's process id")
    given = parser.parse_args()
    given.context = ssl.create_default_context(cafile=given.authority)
    Between.given = given
    signal.signal(signal.SIGUSR1, lambda *_: print(json.dumps(state), file=sys.stderr, flush=True))
    ThreadingHTTPServer(("127.0.0.1", given.port), Between).serve_forever()


if __name__ == "__main__":
    main()
