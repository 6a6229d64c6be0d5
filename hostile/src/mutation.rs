//! Damage to sound files, drawn from a seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers that lengths and counts go wrong at.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// The `index`-th mutation of a file: one to four pieces of damage.
///
/// ```
/// let sound = b"twelve bytes".to_vec();
/// let damaged = ir_hostile::mutation::of(&sound, 7);
/// assert_eq!(damaged, ir_hostile::mutation::of(&sound, 7));
/// assert!((0..100).any(|index| ir_hostile::mutation::of(&sound, index).len() != 12));
/// ```
#[must_use]
pub fn of(sound: &[u8], index: u64) -> Vec<u8> {
    let mut stream = ChaCha8Rng::seed_from_u64(index);
    let mut content = sound.to_vec();
    for _ in 0..stream.random_range(1..=4) {
        damage(&mut content, &mut stream);
    }
    content
}

fn damage(content: &mut Vec<u8>, stream: &mut ChaCha8Rng) {
    let place = stream.random_range(0..=content.len());
    let end = (place + stream.random_range(1..=64)).min(content.len());
    match stream.random_range(0..8) {
        0 => content.truncate(place),
        1 => drop(content.drain(place..end)),
        2 => {
            let copy = content[place..end].to_vec();
            let to = stream.random_range(0..=content.len());
            content.splice(to..to, copy);
        }
        3 => {
            let width = 1 << stream.random_range(0..4u32);
            let edge = EDGES[stream.random_range(0..EDGES.len())].to_le_bytes();
            overwrite(content, place, &edge[..width]);
        }
        // A number as text, where the file is text.
        4 => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(first) = content[place..].iter().position(digits) {
                let edge = EDGES[stream.random_range(0..EDGES.len())].to_string();
                content.splice(place + first..=place + first, edge.into_bytes());
            }
        }
        5 => content.insert(place, stream.random()),
        _ => {
            if let Some(byte) = content.get_mut(place) {
                *byte ^= 1 << stream.random_range(0..8u32);
            }
        }
    }
}

fn overwrite(content: &mut [u8], place: usize, bytes: &[u8]) {
    for (to, from) in content[place..].iter_mut().zip(bytes) {
        *to = *from;
    }
}
