//! Daemons that nobody changed: the recipes of `contrib/daemons`, each one as shipped, with the server from its Debian
//! package, under runit on a machine of its own.

mod apache;
mod backend;
mod change;
mod gunicorn;
mod haproxy;
mod jetty;
mod lighttpd;
mod long_lived;
mod nginx;
mod node;
mod php_fpm;
mod scene;
mod script;
mod uvicorn;
mod websocket;
