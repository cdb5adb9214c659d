//! The way to a server, which a case can close and open again: to whoever goes it, the server is then gone. Or it can be
//! made bad: what is sent then stands still, takes its time, or comes in pieces of one byte.
//!
//! The service behind is shared by all cases, so it cannot itself be stopped. To add a fault of the way: `Way`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::shutdown;

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Good,
    /// Nothing comes through, and nobody is told: half-open.
    Still,
    /// Every answer comes so late.
    Late(Duration),
    /// Every answer comes byte by byte, each in a segment of its own.
    Bytes,
}

/// The way as its threads share it.
struct State {
    way: Mutex<Way>,
    changed: Condvar,
    /// Bytes that met a bad way.
    met: AtomicU64,
}

pub struct Gateway {
    pub address: SocketAddr,
    server: String,
    open: Option<Open>,
    state: Arc<State>,
}

struct Open {
    listener: Arc<TcpListener>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Gateway {
    /// To `server` (`host:port`), open.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { way: Mutex::new(Way::Good), changed: Condvar::new(), met: AtomicU64::new(0) };
        let mut gateway = Self { address, server: server.to_owned(), open: None, state: Arc::new(state) };
        gateway.accept(listener);
        gateway
    }

    fn accept(&mut self, listener: TcpListener) {
        let (listener, streams) = (Arc::new(listener), Arc::new(Mutex::new(Vec::new())));
        let (heard, kept, server) = (Arc::clone(&listener), Arc::clone(&streams), self.server.clone());
        let state = Arc::clone(&self.state);
        let accepting = std::thread::spawn(move || {
            for client in heard.incoming() {
                // It was shut down.
                if client.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidInput) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let mut kept = kept.lock().unwrap();
                for (from, to, is_answer) in [(&client, &server, false), (&server, &client, true)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.push(from.try_clone().unwrap());
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || {
                        let _either_side_left = pass(&from, to, is_answer, &state);
                    });
                }
            }
        });
        self.open = Some(Open { listener, streams, accepting });
    }

    /// Cuts every connection and takes no more: connecting is refused.
    pub fn close(&mut self) {
        let Some(Open { listener, streams, accepting }) = self.open.take() else { return };
        // Dropping it is not enough: a program that another test starts at this moment holds a copy until it runs, which would
        // still be connected to.
        shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        accepting.join().unwrap();
        for stream in streams.lock().unwrap().drain(..) {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
        assert!(TcpStream::connect(self.address).is_err(), "the way is closed");
    }

    /// Makes the way bad or good; what stands still goes on when it no longer does.
    pub fn is(&self, way: Way) {
        *self.state.way.lock().unwrap() = way;
        self.state.changed.notify_all();
    }

    /// How many bytes met a bad way so far.
    pub fn met(&self) -> u64 {
        self.state.met.load(Ordering::SeqCst)
    }

    /// Opens it at the same address.
    pub fn reopen(&mut self) {
        self.accept(TcpListener::bind(self.address).unwrap());
    }
}

/// Reads here and writes on a thread of its own, so that what comes late does not hold up what comes after it.
fn pass(mut from: &TcpStream, to: TcpStream, is_answer: bool, state: &State) -> std::io::Result<()> {
    to.set_nodelay(true)?;
    let (line, written) = mpsc::channel::<(Instant, Way, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut to = to;
        for (due, way, bytes) in written {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let piece = if way == Way::Bytes { 1 } else { bytes.len() };
            if bytes.chunks(piece).any(|piece| to.write_all(piece).is_err()) {
                break;
            }
        }
        let _gone_already = to.shutdown(Shutdown::Both);
    });
    let mut bytes = [0; 16 << 10];
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        let mut way = state.way.lock().unwrap();
        if *way != Way::Good {
            state.met.fetch_add(count as u64, Ordering::SeqCst);
        }
        while *way == Way::Still {
            way = state.changed.wait(way).unwrap();
        }
        // Requests are passed on as they are: what is bad then is the way back.
        let way = if is_answer { *way } else { Way::Good };
        let late = if let Way::Late(by) = way { by } else { Duration::ZERO };
        let _other_side_left = line.send((Instant::now() + late, way, bytes[..count].to_vec()));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.is(Way::Good);
        self.close();
    }
}
