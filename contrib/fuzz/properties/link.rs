//! What passes between launcher and keeper (R24): both are the same program, and nobody else has their socket.

use crate::link::{LENGTH, Word};

pub(super) fn link(data: &[u8]) {
    for bytes in data.chunks_exact(LENGTH) {
        let bytes = <[u8; LENGTH]>::try_from(bytes).expect("chunks of that length");
        let Some(word) = Word::decode(bytes) else {
            continue;
        };
        let again = word.encode();
        assert_eq!(Word::decode(again), Some(word));
        assert_eq!(again[0], bytes[0]);
        let signal = match word {
            Word::Signal(signal, _) | Word::Handled(signal) => signal.number(),
            Word::Settled(_)
            | Word::Ready
            | Word::Leave(_)
            | Word::LeaveLast(_)
            | Word::Reaped(..) => 1,
        };
        assert!((1..=64).contains(&signal));
    }
}
