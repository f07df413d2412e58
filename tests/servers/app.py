"""Says who answers. It takes its time if it is asked to."""

import os
import re
import time


def application(environment, start_response):
    delay = re.search(r"delay=(\d+)ms", environment["QUERY_STRING"])
    if delay:
        time.sleep(int(delay[1]) / 1000)
    body = f"pid {os.getpid()} generation {os.environ['SEAMLESS_GENERATION']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
