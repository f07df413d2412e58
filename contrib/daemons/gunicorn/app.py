"""/usr/local/share/app/app.py: says who answers. With ?delay=3000ms it takes three seconds to send it all."""

import os
import re
import time

PARTS = 10


def application(environment, start_response):
    body = f"pid {os.getpid()} {os.environ['ANSWER']}\n".encode()
    headers = [("Content-Type", "text/plain")]
    delay = re.search(r"delay=(\d+)ms", environment["QUERY_STRING"])
    if not delay:
        start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", [*headers, ("Content-Length", str(len(body) * PARTS))])
    return slowly(body, int(delay[1]) / 1000)


def slowly(body, seconds):
    for _ in range(PARTS):
        time.sleep(seconds / PARTS)
        yield body
