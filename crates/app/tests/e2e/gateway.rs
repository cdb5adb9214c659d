//! The way to a server, which a case can close and open again: to whoever goes it, the server is then gone.
//!
//! The service behind is shared by all cases, so it cannot itself be stopped.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub struct Gateway {
    pub address: SocketAddr,
    server: String,
    open: Option<Open>,
}

struct Open {
    closing: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Gateway {
    /// To `server` (`host:port`), open.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut gateway = Self { address, server: server.to_owned(), open: None };
        gateway.accept(listener);
        gateway
    }

    fn accept(&mut self, listener: TcpListener) {
        let (closing, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (over, kept, server) = (Arc::clone(&closing), Arc::clone(&streams), self.server.clone());
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let mut kept = kept.lock().unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _either_side_left = io::copy(&mut from, &mut to);
                        let _gone_already = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        self.open = Some(Open { closing, streams, accepting });
    }

    /// Cuts every connection and takes no more: connecting is refused.
    pub fn close(&mut self) {
        let Some(Open { closing, streams, accepting }) = self.open.take() else { return };
        closing.store(true, Ordering::SeqCst);
        let _wakes_the_accepting_thread = TcpStream::connect(self.address);
        accepting.join().unwrap();
        for stream in streams.lock().unwrap().drain(..) {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
        assert!(TcpStream::connect(self.address).is_err(), "the way is closed");
    }

    /// Opens it at the same address.
    pub fn reopen(&mut self) {
        self.accept(TcpListener::bind(self.address).unwrap());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.close();
    }
}
