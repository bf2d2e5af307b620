#!/usr/bin/env python3
"""CPU, throughput and latency of puts: three members of a real etcd and three replicas of ours, on this machine, in turns.

etcd gets the best it can have here: its data in memory and its sync switched off. Prints every run and the ratio of the
medians of server CPU seconds per 1,000 puts, which is the figure to steer by on a small machine; fails only where
--limit is given and passed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds until a cluster must serve


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def etcd(binary):
    """Three members; yields endpoints and process ids."""
    place = tempfile.mkdtemp(prefix="bench-etcd-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    ports = free_ports(6)
    members = [(f"m{n}", ports[2 * n], ports[2 * n + 1]) for n in range(3)]
    cluster = ",".join(f"{name}=http://127.0.0.1:{peer}" for name, _, peer in members)
    processes = []
    try:
        for name, client, peer in members:
            command = [
                binary, "--name", name, "--data-dir", f"{place}/{name}", "--unsafe-no-fsync", "--log-level", "error",
                "--listen-client-urls", f"http://127.0.0.1:{client}",
                "--advertise-client-urls", f"http://127.0.0.1:{client}",
                "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                "--initial-cluster", cluster,
            ]
            with open(f"{place}/{name}.log", "wb") as log:
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        end = time.monotonic() + PATIENCE
        while not all(listening(client) for _, client, _ in members):
            if time.monotonic() > end or any(process.poll() is not None for process in processes):
                for name, _, _ in members:
                    with open(f"{place}/{name}.log", encoding="utf-8", errors="replace") as log:
                        sys.stderr.write(log.read()[-2000:])
                raise SystemExit("bench.py: etcd does not serve; its logs are above")
            time.sleep(0.05)
        yield [f"127.0.0.1:{client}" for _, client, _ in members], [process.pid for process in processes]
    finally:
        for process in processes:
            stop(process)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def replicas(vr):
    """`vr dev` with its defaults; yields endpoints and process ids."""
    process = subprocess.Popen([vr, "dev", "-o", "json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit("bench.py: `vr dev` ended before it served; what it said is above")
        started = json.loads(line)
        yield [e.split("://")[-1] for e in started["endpoints"]], [r["pid"] for r in started["replicas"]]
    finally:
        stop(process)


def measure(vr, endpoints, pids, sessions, seconds):
    command = [
        vr, "bench", "put", "--endpoints", ",".join(endpoints), "--sessions", str(sessions), "--size", "256",
        "--duration", f"{seconds}s", "--warmup", "2s", "--pid", ",".join(map(str, pids)), "-o", "json",
    ]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if report["errors"]:
        raise SystemExit(f"bench.py: puts failed, so nothing was measured: {report['errors']} {report['firstError']}")
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vr", default="target/release/vr", help="our binary [%(default)s]")
    parser.add_argument("--etcd", default=os.environ.get("VR_ETCD") or shutil.which("etcd"), help="etcd's binary")
    parser.add_argument("--sessions", default="64,1000", help="puts in flight, one run for each [%(default)s]")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each, in turns [%(default)s]")
    parser.add_argument("--limit", type=float, help="fail above this ratio")
    given = parser.parse_args()
    if not given.etcd:
        parser.error("no etcd: give --etcd or VR_ETCD, or put one on PATH (bash .ci/etcd/install.sh builds one)")

    print(f"{'server':8} {'sessions':>8} {'puts/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'p99.9 ms':>9} {'CPU s/1000':>10}")
    sessions = [int(number) for number in given.sessions.split(",")]
    cpu = {}
    for _ in range(given.rounds):
        for name, cluster in (("etcd", lambda: etcd(given.etcd)), ("vr", lambda: replicas(given.vr))):
            with cluster() as (endpoints, pids):
                for count in sessions:
                    report = measure(given.vr, endpoints, pids, count, given.seconds)
                    latency, spent = report["latencyMillis"], report["serverCpuSecondsPer1000"]
                    cpu.setdefault((name, count), []).append(spent)
                    print(
                        f"{name:8} {count:8} {report['throughput']:9.0f} {latency['p50']:8.2f} {latency['p99']:8.2f} "
                        f"{latency['p999']:9.2f} {spent:10.4f}",
                        flush=True,
                    )
    passed = True
    for count in sessions:
        ratio = statistics.median(cpu["vr", count]) / statistics.median(cpu["etcd", count])
        print(f"{count} sessions: {ratio:.2f} of etcd's CPU seconds per 1,000 puts")
        passed = passed and (given.limit is None or ratio <= given.limit)
    if not passed:
        raise SystemExit(f"bench.py: above the limit of {given.limit}")


if __name__ == "__main__":
    main()
