//! A bounded two-way pipe between the engine's loop and the task of one stream.
//!
//! Each direction holds at most [`CAPACITY`] bytes; a writer that finds it full
//! is woken when the reader has taken some, which is how a slow reader at one end
//! of the proxy slows the sender at the other.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::ReadBuf;

/// Bytes that one direction holds at most.
pub(crate) const CAPACITY: usize = 64 << 10;

#[derive(Default)]
struct Half {
    bytes: BytesMut,
    /// The writer will write no more.
    ended: bool,
    /// One of both has gone without having ended well.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Half {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

fn set(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(had) => had.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

/// Takes what the other end writes.
pub(crate) struct Reader {
    half: Rc<RefCell<Half>>,
}

/// Gives to the other end.
pub(crate) struct Writer {
    half: Rc<RefCell<Half>>,
}

/// One end of a pipe.
pub(crate) struct End {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// A pipe's two ends.
pub(crate) fn pair() -> (End, End) {
    let one: Rc<RefCell<Half>> = Rc::default();
    let two: Rc<RefCell<Half>> = Rc::default();
    let end = |incoming: &Rc<RefCell<Half>>, outgoing: &Rc<RefCell<Half>>| End {
        reader: Reader { half: incoming.clone() },
        writer: Writer { half: outgoing.clone() },
    };
    (end(&one, &two), end(&two, &one))
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Reader {
    /// Waits for bytes, the end (`Ok(false)`) or a break.
    fn poll_there(&mut self, context: &Context<'_>) -> Poll<io::Result<bool>> {
        let mut half = self.half.borrow_mut();
        if !half.bytes.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if half.broken {
            return Poll::Ready(Err(gone()));
        }
        if half.ended {
            return Poll::Ready(Ok(false));
        }
        set(&mut half.reader, context);
        Poll::Pending
    }

    /// Reads what is there. Nothing read: the other end has ended.
    pub(crate) fn poll_read(
        &mut self,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_there(context).map_ok(|there| {
            if there {
                let mut half = self.half.borrow_mut();
                let count = half.bytes.len().min(buffer.remaining());
                buffer.put_slice(&half.bytes.split_to(count));
                half.wake_writer();
            }
        })
    }

    /// Appends what is there to `buf`, waiting for the first byte; whether there was any
    /// before the other end ended.
    pub(crate) async fn more(&mut self, buf: &mut BytesMut) -> io::Result<bool> {
        match self.take().await? {
            Some(bytes) if buf.is_empty() => *buf = bytes,
            Some(bytes) => buf.extend_from_slice(&bytes),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Waits until nobody is at the other end who could still end well.
    pub(crate) async fn broken(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let mut half = self.half.borrow_mut();
            if half.broken {
                return Poll::Ready(Err(gone()));
            }
            set(&mut half.reader, context);
            Poll::Pending
        })
        .await
    }

    /// Takes all that is there, waiting for the first byte; `None`: the other end has ended.
    async fn take(&mut self) -> io::Result<Option<BytesMut>> {
        let there = std::future::poll_fn(|context| self.poll_there(context)).await?;
        let mut half = self.half.borrow_mut();
        half.wake_writer();
        Ok(there.then(|| half.bytes.split()))
    }
}

impl Writer {
    /// Writes as much as there is room for.
    pub(crate) fn poll_write(
        &mut self,
        context: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut half = self.half.borrow_mut();
        if half.broken || half.ended {
            return Poll::Ready(Err(gone()));
        }
        let count = CAPACITY.saturating_sub(half.bytes.len()).min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            set(&mut half.writer, context);
            return Poll::Pending;
        }
        half.bytes.extend_from_slice(bytes.get(..count).unwrap_or_default());
        half.wake_reader();
        Poll::Ready(Ok(count))
    }

    /// Writes all of it, however long that takes.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let count = std::future::poll_fn(|context| self.poll_write(context, left)).await?;
            left = left.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends what this end writes.
    pub(crate) fn shut(&mut self) {
        let mut half = self.half.borrow_mut();
        half.ended = true;
        half.wake_reader();
    }

    /// Waits until nobody will read what is written here.
    pub(crate) async fn broken(&mut self) {
        std::future::poll_fn(|context| {
            let mut half = self.half.borrow_mut();
            if half.broken {
                return Poll::Ready(());
            }
            set(&mut half.writer, context);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut half = self.half.borrow_mut();
        // What nobody will read must not be written.
        half.broken = true;
        half.bytes.clear();
        half.wake_writer();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut half = self.half.borrow_mut();
        half.broken |= !half.ended;
        half.wake_reader();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(poll: Poll<T>) -> Option<T> {
        match poll {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn read(reader: &mut Reader, context: &Context<'_>) -> Option<io::Result<usize>> {
        let mut space = [0; 1 << 10];
        let mut buffer = ReadBuf::new(&mut space);
        now(reader.poll_read(context, &mut buffer)).map(|read| read.map(|()| buffer.filled().len()))
    }

    #[test]
    fn a_full_pipe_takes_no_more_until_something_was_read() {
        let context = Context::from_waker(Waker::noop());
        let (mut near, mut far) = pair();
        let bytes = vec![7; CAPACITY + 10];
        let wrote = now(near.writer.poll_write(&context, &bytes));
        assert!(matches!(wrote, Some(Ok(CAPACITY))));
        assert!(near.writer.poll_write(&context, b"x").is_pending());
        assert!(matches!(read(&mut far.reader, &context), Some(Ok(1024))));
        assert!(matches!(now(near.writer.poll_write(&context, &bytes)), Some(Ok(1024))));
    }

    #[test]
    fn an_end_is_told_from_a_break() {
        let context = Context::from_waker(Waker::noop());
        let (mut near, mut far) = pair();
        assert!(read(&mut far.reader, &context).is_none());
        let _ = near.writer.poll_write(&context, b"last");
        near.writer.shut();
        drop(near.writer);
        assert!(matches!(read(&mut far.reader, &context), Some(Ok(4))));
        assert!(matches!(read(&mut far.reader, &context), Some(Ok(0))));
        drop(far);
        assert!(matches!(read(&mut near.reader, &context), Some(Err(_))));
    }
}
