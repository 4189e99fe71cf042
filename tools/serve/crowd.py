"""Many clients at once: each uploads a scan, looks for its damage and restores it. Says how much memory the server took.

    photomend serve --port 7860 --data /tmp/data & python tools/serve/crowd.py --pid $! --scan scan.jpg --clients 50

Linux only (reads /proc), nothing but the standard library.
"""

import argparse
import json
import threading
import time
import urllib.error
import urllib.request


def ask(url, method, path, body=None):
    """The answer's bytes; comes back later when told that the server is busy."""
    while True:
        try:
            request = urllib.request.Request(url + path, data=body, method=method)
            return urllib.request.urlopen(request, timeout=3600).read()
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            time.sleep(1)


def client(url, name, scan, failures):
    try:
        picture = json.loads(ask(url, "POST", f"/api/pictures?name={name}.jpg", scan))["id"]
        ask(url, "GET", f"/api/pictures/{picture}/detection?draft=true")
        job = json.loads(ask(url, "POST", f"/api/pictures/{picture}/jobs", b"{}"))["id"]
        events = ask(url, "GET", f"/api/jobs/{job}/events").decode()
        if '"state":"done"' not in events:
            failures.append(events[-300:])
    except OSError as error:
        failures.append(repr(error))


def resident(pid):
    """Megabytes in memory."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--scan", required=True, help="an image file")
    parser.add_argument("--clients", type=int, default=50)
    args = parser.parse_args()
    with open(args.scan, "rb") as file:
        scan = file.read()

    failures, peak, started = [], 0, time.time()
    clients = [
        threading.Thread(target=client, args=(args.url, number, scan, failures)) for number in range(args.clients)
    ]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        peak = max(peak, resident(args.pid))
        time.sleep(0.05)
    print(f"{args.clients} clients, {len(failures)} failures, peak {peak} MB, {time.time() - started:.0f} s")
    for failure in failures[:3]:
        print(failure)


if __name__ == "__main__":
    main()
