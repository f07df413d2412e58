"""/usr/local/share/app/serve.py: `uvicorn --fd 3 app:app`, as a server that drains."""

import asyncio

import uvicorn


class Server(uvicorn.Server):
    async def shutdown(self, sockets=None):
        """uvicorn's own closes, at once, each connection whose request it has not read yet, and every WebSocket."""
        for server in self.servers:
            server.close()
        # Those who have connected get a second to ask.
        await asyncio.sleep(1)
        for connection in self.server_state.connections - self.websockets():
            connection.shutdown()
        # A WebSocket ends when its client or the application ends it; the last word has --drain-timeout.
        while self.websockets():
            await asyncio.sleep(0.1)
        await super().shutdown(sockets)

    def websockets(self):
        protocol = self.config.ws_protocol_class
        return {one for one in self.server_state.connections if protocol and isinstance(one, protocol)}


Server(uvicorn.Config("app:app", fd=3, access_log=False, log_level="warning")).run()
