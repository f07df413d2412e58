//! A WebSocket's client (RFC 6455), as much of it as a short text takes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

const WHOLE_TEXT: u8 = 0x81;
/// A client's frames are masked: with zeros, which change nothing.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0; 4];

pub(crate) struct WebSocket(TcpStream);

impl WebSocket {
    pub(crate) fn open(address: &str) -> WebSocket {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(one(&mut connection));
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        WebSocket(connection)
    }

    /// Sends a text, and returns the one that comes back.
    pub(crate) fn ask(&mut self, text: &str) -> String {
        let mut frame = vec![WHOLE_TEXT, MASKED | short(text.len())];
        frame.extend(MASK);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).unwrap();
        assert_eq!(one(&mut self.0), WHOLE_TEXT);
        let mut answer = vec![0; usize::from(one(&mut self.0))];
        self.0.read_exact(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Waits until the server has ended it, whether it says so or not.
    pub(crate) fn is_over(&mut self) -> bool {
        // A ping may come, and a word of farewell.
        match self.0.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

fn one(connection: &mut TcpStream) -> u8 {
    let mut byte = [0];
    connection.read_exact(&mut byte).unwrap();
    byte[0]
}

/// A length that fits into seven bits and is none of the two that announce a longer one.
fn short(length: usize) -> u8 {
    u8::try_from(length)
        .ok()
        .filter(|&length| length < 126)
        .unwrap()
}
