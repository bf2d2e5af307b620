"""Writers that note what was acknowledged, so that a lost write is found and not guessed.

Each of them puts keys of its own, one after the other, over gRPC through the Service of the cluster, and appends a line
to a journal for each acknowledgement: key, revision, and when it was sent and answered. What was not answered is left
out: it may have happened or not. Run as a program inside the box's network, until it is told to end (SIGTERM).
"""

import argparse
import json
import signal
import sys
import threading
import time

from .wire import Connection, fields, message


class Client:
    """One connection; it is made anew after a failure."""

    def __init__(self, address, name, authority, timeout=3.0):
        self.to = (address, name, authority, timeout)
        self.connection = None

    def call(self, path, body):
        try:
            if self.connection is None:
                self.connection = Connection(*self.to)
            return self.connection.call(path, body)
        except (OSError, ValueError):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            raise

    def put(self, key, value):
        told = dict(fields(self.call("/etcdserverpb.KV/Put", message(f1=key.encode(), f2=value.encode()))))
        return dict(fields(told[1]))[3]

    def keys(self, prefix):
        """Everything below a prefix, as pairs of a key and the revision that wrote it."""
        found, key, end = {}, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)
        while True:
            body = message(f1=key.encode(), f2=end.encode(), f3=2000, f8=1)
            more = 0
            for number, value in fields(self.call("/etcdserverpb.KV/Range", body)):
                if number == 2:
                    pair = dict(fields(value))
                    found[pair[1].decode()] = pair[3]
                elif number == 3:
                    more = value
            if not more:
                return found
            key = max(found) + "\0"


def write(client, number, run, pause, journal, lock, ended):
    count = 0
    while not ended.is_set():
        key = f"load/{run}/{number}/{count:08}"
        count += 1
        sent = time.time()
        try:
            revision = client.put(key, "x" * 100)
        except (OSError, ValueError, KeyError) as error:
            line = {"failed": key, "sent": sent, "at": time.time(), "why": str(error)[:200]}
            time.sleep(0.05)
        else:
            line = {"key": key, "revision": revision, "sent": sent, "at": time.time()}
        with lock:
            journal.write(json.dumps(line) + "\n")
            journal.flush()
        ended.wait(pause)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--authority")
    parser.add_argument("--journal", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.02)
    given = parser.parse_args()
    ended, lock = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with open(given.journal, "a", encoding="utf-8") as journal:
        writers = [threading.Thread(target=write, args=(
            Client(given.address, given.name, given.authority), number, given.run, given.pause, journal, lock, ended))
            for number in range(given.writers)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()


def read_all(address, name, authority):
    print(json.dumps(Client(address, name, authority, timeout=20).keys("load/")))


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        read_all(*sys.argv[2:4], sys.argv[4] if len(sys.argv) > 4 else None)
    else:
        main()
