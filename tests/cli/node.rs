//! A node that answers what the test tells it to, behind the product's own API server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_channel::Receiver;
use lanyard::node::api::events::EventBus;
use lanyard::node::api::{Access, ApiServer, CALLS_MAX, Call};
use lanyard::node::places::{Places, Surroundings};
use lanyard::shell::rt;
use lanyard::wire::api::{Failure, Request, Response};
use serde_json::Value;
use tempfile::TempDir;

/// A running API with its home.
pub struct Node {
    pub dir: TempDir,
    pub places: Places,
    pub asked: Arc<Mutex<Vec<Request>>>,
    pub events: EventBus,
    calls: Receiver<Call>,
    threads: Vec<JoinHandle<()>>,
}

/// What a run of the program gave.
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Node {
    /// A node that answers every request by `answer`.
    pub fn answering(answer: impl Fn(&Request) -> Result<Response, Failure> + Send + 'static) -> Self {
        Self::start(move |call| {
            let answer = answer(&call.request);
            call.reply.answer(answer);
        })
    }

    /// A node that does with every call what `handle` does.
    pub fn start(handle: impl Fn(Call) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::of_node(Some(dir.path()), &Surroundings::default()).expect("places");
        Self::start_at(dir, places, handle)
    }

    /// The same at given places.
    pub fn start_at(dir: TempDir, places: Places, handle: impl Fn(Call) + Send + 'static) -> Self {
        places.make().expect("made");
        let server = ApiServer::bind(&places.socket, Access::Owner).expect("bound");
        let (sender, calls) = async_channel::bounded::<Call>(CALLS_MAX);
        let events = EventBus::new();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (bus, heard, seen) = (events.clone(), calls.clone(), asked.clone());
        let serving = std::thread::spawn(move || rt::block_on(server.serve(sender, bus)));
        let answering = std::thread::spawn(move || {
            while let Ok(call) = heard.recv_blocking() {
                seen.lock().expect("no panic").push(call.request.clone());
                handle(call);
            }
        });
        Self { dir, places, asked, events, calls, threads: vec![serving, answering] }
    }

    /// Runs the program on this node's home.
    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).output().expect("it runs"))
    }

    /// The program on this node's home.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = lanyard(self.dir.path());
        command.arg("--home").arg(self.dir.path()).args(args);
        command
    }

    /// Runs the program with `--json`; it succeeds, prints one document on one line, and nothing else.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], args].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{args:?}");
        serde_json::from_str(&ran.stdout).expect("JSON")
    }

    /// The request that the last command made.
    pub fn last_asked(&self) -> Request {
        self.asked.lock().expect("no panic").last().expect("something was asked").clone()
    }

    /// Sends one request that asks to close the connection after it, and returns all that comes back.
    pub fn raw(&self, request: &str) -> String {
        self.raw_bytes(request.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes(), false)
    }

    /// Sends bytes, closes its own half if `then_close`, and returns all that comes back until the other side closes.
    pub fn raw_bytes(&self, bytes: &[u8], then_close: bool) -> String {
        let mut stream = UnixStream::connect(&self.places.socket).expect("connected");
        // A server that refuses while the client still writes has said why already.
        let _refused = stream.write_all(bytes);
        if then_close {
            let _refused = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Ends the API as the node does.
    pub fn end(&mut self) {
        self.calls.close();
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.calls.close();
    }
}

/// The program with nothing of this account around it.
pub fn lanyard(account: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.env_clear().env("HOME", account).env("TZ", "UTC").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// Runs the program in an empty account.
pub fn run(args: &[&str]) -> Ran {
    let account = tempfile::tempdir().expect("a directory");
    finish(lanyard(account.path()).args(args).output().expect("it runs"))
}

pub fn finish(output: Output) -> Ran {
    Ran {
        status: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A path below a directory, as an argument.
pub fn below(dir: &Path, name: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    let text = path.to_str().expect("UTF-8").to_string();
    (path, text)
}

/// A node that answers everything with this.
pub fn answer(response: Response) -> Node {
    Node::answering(move |_| Ok(response.clone()))
}

/// Runs a command for people; it succeeds and says nothing on stderr.
pub fn text(node: &Node, args: &[&str]) -> String {
    let ran = node.run(args);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{args:?}");
    ran.stdout
}
