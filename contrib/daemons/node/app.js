// /usr/local/share/app/app.js: says who answers. With ?delay=3000ms it takes three seconds to send it all.
'use strict';
const http = require('node:http');
const { setTimeout } = require('node:timers/promises');

const answer = 'generation 1';
const parts = 10;

const server = http.createServer(async (request, response) => {
    const body = `pid ${process.pid} ${answer}\n`;
    const delay = /delay=(\d+)ms/.exec(request.url);
    if (!delay) {
        response.end(body);
        return;
    }
    response.setHeader('Content-Length', body.length * parts);
    for (let part = 0; part < parts; part++) {
        await setTimeout(delay[1] / parts);
        response.write(body);
    }
    response.end();
});

// Before it accepts: until then TERM ends node at once, and afterwards it finishes what it has in hand. With `close` it
// accepts no more, connections that are idle are closed, and when the last one has ended nothing keeps node alive.
process.on('SIGTERM', () => server.close());

// --listen of the run script. In a worker of `cluster` 3 means the primary's descriptor.
server.listen({ fd: 3 });
