// An HTTP server in Node that takes part in seamless restarts. Node's core is all that it needs.
//
//     mkdir -p /run/app; seamless-run --pid-file /run/app/app.pid --listen http=127.0.0.1:8080 -- node daemon.js
//     curl 'http://127.0.0.1:8080/?delay=5000ms'
//
// Restart it (under runit, say: `sv restart app`) while curl waits: curl gets its answer, and whoever comes next is answered by the new generation.
//
// It runs without seamless-run too: it opens 127.0.0.1:8080 by itself, nobody is told anything, and TERM or Ctrl-C ends
// it in the same way.
'use strict';

const { execFile } = require('node:child_process');
const http = require('node:http');

// Tells the keeper, our parent, by a command: Node's core has no Unix datagrams. As our child the command is believed;
// it waits until the word has taken effect. It has to be in the PATH. An error is never a reason to stop serving.
function say(word) {
  if (!process.env.SEAMLESS) return;
  execFile('seamless-run', ['notify', word], (error, stdout, stderr) => {
    if (error) console.error(`daemon.js: ${word}: ${stderr.trim() || error.message}; serving on`);
  });
}

let draining = false;

const server = http.createServer(async (request, response) => {
  const delay = /[?&]delay=(\d+)ms/.exec(request.url);
  if (delay) await new Promise((resolve) => setTimeout(resolve, delay[1]));
  // A client that keeps its connection would keep us from ending.
  if (draining) response.setHeader('Connection', 'close');
  response.end(`pid ${process.pid} generation ${process.env.SEAMLESS_GENERATION ?? '-'}\n`);
});

// TERM: the successor serves, or this is a stop. Nobody is accepted any more, and who waits in the queue is the
// successor's; Node ends by itself, with 0, when all that was in hand has been answered.
function drain() {
  draining = true;
  server.close();
  server.closeIdleConnections();
}

// First of all: USR2 kills a process that does not listen to it. (USR1 is Node's own: it starts the debugger.)
process.on('SIGUSR2', () => say('prepared')); // a successor will come: go on serving
process.once('SIGTERM', drain);
process.once('SIGINT', drain);

// The first --listen is descriptor 3 (the next ones are 4, 5, …).
const held = process.env.LISTEN_PID === String(process.pid);
const place = held ? { fd: 3 } : { host: '127.0.0.1', port: 8080 };
// Node would shorten the held socket's queue to 511; of a descriptor only the second argument tells it otherwise. All
// that can fail has been done when it listens: only then the predecessor is told to drain.
server.listen(place, 4096, () => say('started'));
