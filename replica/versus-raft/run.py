#!/usr/bin/env python3
"""CPU and throughput of replicated puts over the native protocol: three VR replicas and three members of raft-rs, in turns.

Both have one thread a member, the same frames, the same store and the same clients (`vr bench put --native`). raft-rs
has its log in memory and nothing else; the replicas of `vr dev` ship checkpoints and logs to two directories and S3
meanwhile, and keep their clients' sessions. Prints every run, and the ratio of the medians.
"""

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import time


@contextlib.contextmanager
def started(command, pids_of):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        report = json.loads(process.stdout.readline())
        yield [endpoint.split("://")[-1] for endpoint in report["endpoints"]], pids_of(report)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vr", default="target/release/vr", help="our binary [%(default)s]")
    parser.add_argument("--raft", required=True, help="the binary that this crate builds")
    parser.add_argument("--sessions", type=int, default=4096, help="puts in flight [%(default)s]")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each, in turns [%(default)s]")
    given = parser.parse_args()

    clusters = {
        "raft-rs": lambda: started([given.raft], lambda report: report["pids"]),
        "vr": lambda: started([given.vr, "dev", "-o", "json"], lambda report: [r["pid"] for r in report["replicas"]]),
    }
    cpu, rate = {}, {}
    print(f"{'server':8} {'puts/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU s/1000':>10} {'generator':>10}")
    for _ in range(given.rounds):
        for name, cluster in clusters.items():
            with cluster() as (endpoints, pids):
                # Somebody has to lead first.
                time.sleep(3)
                command = [
                    given.vr, "bench", "put", "--native", "--endpoints", ",".join(endpoints), "--size", "256",
                    "--sessions", str(given.sessions), "--duration", f"{given.seconds}s", "--warmup", "2s",
                    "--pid", ",".join(map(str, pids)), "-o", "json",
                ]
                report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                if report["errors"]:
                    raise SystemExit(f"run.py: puts failed, so nothing was measured: {report['firstError']}")
                latency, spent = report["latencyMillis"], report["serverCpuSecondsPer1000"]
                cpu.setdefault(name, []).append(spent)
                rate.setdefault(name, []).append(report["throughput"])
                print(
                    f"{name:8} {report['throughput']:9.0f} {latency['p50']:8.2f} {latency['p99']:8.2f} {spent:10.4f} "
                    f"{report['generatorCpuSecondsPer1000']:10.4f}",
                    flush=True,
                )
    spent = statistics.median(cpu["vr"]) / statistics.median(cpu["raft-rs"])
    served = statistics.median(rate["vr"]) / statistics.median(rate["raft-rs"])
    print(f"{served:.2f} of raft-rs' puts a second, for {spent:.2f} of its CPU seconds per 1,000")


if __name__ == "__main__":
    main()
