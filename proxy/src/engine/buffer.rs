//! Bytes waiting to be written to one connection.

/// A queue of bytes. Empty ones own no memory: the engine lends a vector from
/// its spares when the first byte comes and takes it back when the last has gone.
#[derive(Default)]
pub struct OutBuffer {
    bytes: Vec<u8>,
    start: usize,
}

/// Vectors kept for reuse, and the largest capacity worth keeping.
const SPARES: usize = 256;
const SPARE_CAPACITY: usize = 256 << 10;

/// Vectors that are lent to connections while they have bytes to hold.
#[derive(Default)]
pub struct Spares {
    vectors: Vec<Vec<u8>>,
}

impl Spares {
    /// An empty vector, with capacity where one was spare.
    pub fn take(&mut self) -> Vec<u8> {
        self.vectors.pop().unwrap_or_default()
    }

    /// How much memory they are, bytes.
    pub fn capacity(&self) -> usize {
        self.vectors.iter().map(Vec::capacity).sum()
    }

    /// Gives their memory back.
    pub fn clear(&mut self) {
        self.vectors = Vec::new();
    }

    /// Takes a vector back.
    #[inline]
    pub fn give(&mut self, vector: Vec<u8>) {
        // Most of what a request might own it does not.
        if vector.capacity() > 0 {
            self.keep(vector);
        }
    }

    fn keep(&mut self, mut vector: Vec<u8>) {
        if vector.capacity() <= SPARE_CAPACITY && self.vectors.len() < SPARES {
            vector.clear();
            self.vectors.push(vector);
        }
    }
}

impl OutBuffer {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// How much memory they take, bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The waiting bytes.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The vector to append to.
    pub fn tail(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = spares.take();
        } else if self.start > 0 && self.start >= self.len() {
            // Worth moving: no more is moved than was written since the last move.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Forgets the first `count` bytes: they are written.
    pub fn consume(&mut self, count: usize, spares: &mut Spares) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.start = 0;
            spares.give(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut spares = Spares::default();
        let mut out = OutBuffer::default();
        out.tail(&mut spares).extend_from_slice(b"hello");
        out.consume(2, &mut spares);
        assert_eq!(out.pending(), b"llo");
        out.consume(3, &mut spares);
        assert!(out.is_empty());
        assert_eq!(out.bytes.capacity(), 0);
        assert!(spares.take().capacity() >= 5);
    }
}
