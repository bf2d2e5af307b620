#!/usr/bin/env python3
"""Which calls of S3 the processes really make, by what they do: recorded between `vr` and its embedded S3 server.

    record.py write --vr VR     records them into calls.json beside this
    record.py check --vr VR     fails if a kind of call is made that calls.json does not have

Recorded are a replica that starts, ships and stops (writer), one that is restored after the loss of everything (restore:
the fence, and then the replica), and the reading of a tier (drill). A kind of call is an action, a key with its numbers
taken out, and the conditions that were sent; iam.py holds the policies to them. What calls.json has of the operator is
recorded by a test of vr-operator (operator/controller/src/run/bucket/calls.rs), and stays as it is here.
"""
import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

# Whose calls are recorded there, and not here.
ELSEWHERE = "operator"
CALLS = pathlib.Path(__file__).with_name("calls.json")
BUCKET, PREFIX = "vr-checkpoints", "shop"
KEYS = {"AWS_ACCESS_KEY_ID": "vr", "AWS_SECRET_ACCESS_KEY": "only-on-this-machine"}
PATIENCE = 60
# What differs from run to run, and what stands for it.
NUMBERS = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "LINEAGE"),
    (r"[0-9A-HJKMNP-TV-Z]{26}", "ULID"),
    (r"[0-9a-f]{16}", "N"),
    (r"/[0-9a-f]{2}/", "/hh/"),
    (r"-[0-9]+\.pk", "-n.pk"),
]


class Recorder(http.server.ThreadingHTTPServer):
    """Hands requests on to the real server, and notes them under the role of the moment."""

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.role, self.calls = upstream, None, set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def hand_on(self):
        body = self.body()
        call = kind(self.command, self.path, self.headers)
        self.server.calls.add((self.server.role, *call))
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=PATIENCE)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_DELETE = do_POST = do_HEAD = hand_on

    def body(self):
        """What came with the request, chunks and their sizes included as they were sent."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        raw = b""
        while True:
            size = self.rfile.readline()
            raw += size + self.rfile.read(int(size.split(b";")[0], 16) + 2)
            if int(size.split(b";")[0], 16) == 0:
                return raw

    def log_message(self, *_):
        pass


def kind(method, path, headers):
    """The kind of a call: action, key, conditions. One that is not known here ends the recording."""
    parts = urllib.parse.urlsplit(path)
    query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
    if method == "GET" and not key and "list-type" in query:
        action, key = "s3:ListBucket", query.get("prefix", [""])[0]
    elif key and method in ("GET", "PUT", "DELETE") and set(query) <= {"x-id"}:
        action = {"GET": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}[method]
    else:
        action = f"unknown:{method} {path}"
    for pattern, stands in NUMBERS:
        key = re.sub(pattern, stands, key)
    conditions = tuple(name for name in ("if-match", "if-none-match") if name in headers)
    return action, key, conditions


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"record.py: {what} did not come within {PATIENCE} s")
        time.sleep(0.05)


class Dev:
    """A `vr dev` that runs."""

    def __init__(self, vr, root, endpoint, *more):
        flags = ["--replicas", "1", "--dir", str(root / "dev"), "--output", "json"]
        if not (root / "dev").exists():
            flags += ["--s3-endpoint", endpoint, "--s3-bucket", BUCKET, "--s3-prefix", PREFIX]
        self.log = (root / "dev.log").open("ab")
        command = [vr, "dev", *flags, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **KEYS})
        self.started = self.process.stdout.readline()
        if not self.started:
            sys.exit(f"record.py: vr dev did not start: {(root / 'dev.log').read_text()}")

    def write(self, vr):
        """Something to ship."""
        there = json.loads(self.started)["endpoints"][0].removeprefix("http://")
        command = [vr, "bench", "put", "--endpoints", there, "--keys", "100", "--total", "500", "--size", "256"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=self.log)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=PATIENCE)


def record(vr):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.close()
        command = [vr, "s3-server", "--dir", str(root / "s3"), "--bucket", BUCKET, "--listen", f"127.0.0.1:{port}"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **KEYS})
        running = []
        try:
            server.stdout.readline()
            recorder = Recorder(f"127.0.0.1:{port}")
            threading.Thread(target=recorder.serve_forever, daemon=True).start()
            endpoint = f"http://127.0.0.1:{recorder.server_address[1]}"

            def shipped(role, below):
                return lambda: any(c[0] == role and c[1] == "s3:PutObject" and below in c[2] for c in recorder.calls)

            recorder.role = "writer"
            running.append(Dev(vr, root, endpoint))
            running[0].write(vr)
            wait("a log segment", shipped("writer", "/log/"))
            running.pop().stop()
            # Again, on what is there.
            running.append(Dev(vr, root, endpoint))
            running.pop().stop()

            recorder.role = "drill"
            read = [f"s3://{BUCKET}/{PREFIX}", "--s3-endpoint", endpoint]
            for command in (["ls"], ["show"], ["verify"], ["restore", "--to", str(root / "out")]):
                ran = subprocess.run([vr, "checkpoint", *command, *read], env={**os.environ, **KEYS}, capture_output=True, text=True)
                if ran.returncode:
                    sys.exit(f"record.py: vr checkpoint {command[0]}: {ran.stderr}")

            recorder.role = "restore"
            for disk in [*root.glob("dev/*/nvme"), *root.glob("dev/*/volume")]:
                shutil.rmtree(disk)
            running.append(Dev(vr, root, endpoint, "--restore"))
            wait("a checkpoint of the new generation", shipped("restore", "/ckpt/"))
            running.pop().stop()
            recorder.shutdown()
            return recorder.calls
        finally:
            for dev in running:
                dev.stop()
            server.send_signal(signal.SIGINT)
            server.wait(PATIENCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("--vr", required=True)
    args = parser.parse_args()
    calls = sorted(record(args.vr))
    read = [tuple(c.values()) for c in json.loads(CALLS.read_text())]
    if args.what == "write":
        kept = [call for call in read if call[0] == ELSEWHERE]
        lines = [json.dumps(dict(zip(("role", "action", "key", "conditions"), call))) for call in sorted(kept + calls)]
        CALLS.write_text("[\n" + ",\n".join(lines) + "\n]\n")
        return
    known = {(*call[:3], tuple(call[3])) for call in read if call[0] != ELSEWHERE}
    new = [call for call in calls if call not in known]
    for call in new:
        print("not in calls.json:", *call)
    if new:
        sys.exit("record.py: new kinds of calls: record.py write, and see whether the policies in terraform/ allow them")
    print(f"{len(calls)} kinds of calls, {len(known)} known")


if __name__ == "__main__":
    main()
