//! A process that is told line by line what to do, and answers each line.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A process with its standard input and output; dropping it lets it end and waits for that.
pub(super) struct Process {
    program: String,
    child: Child,
    /// Closed to let the process end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command whose errors go to ours.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} could not be started"))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{program} has no stdin or stdout");
        };
        Ok(Self {
            program,
            child,
            requests: Some(requests),
            answers: BufReader::new(answers),
        })
    }

    /// Sends a line and reads the line that answers it.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T> {
        self.send(format!("{request}\n").as_bytes())?;
        self.answer()
    }

    /// Reads one line, the answer to what was sent; `{"error": "…"}` says that nothing more comes, and why.
    pub(super) fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!(self.ended());
        }
        let unexpected = || format!("{} gave an unexpected answer {line:?}", self.program);
        let answer: Value = serde_json::from_str(&line).with_context(unexpected)?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{} failed: {error}", self.program);
        }
        serde_json::from_value(answer).with_context(unexpected)
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match &mut self.requests {
            Some(requests) => requests.write_all(bytes).and_then(|()| requests.flush()),
            None => return Ok(()),
        };
        sent.with_context(|| self.ended())
    }

    /// Reads exactly as many bytes as there is room for.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        let received = self.answers.read_exact(bytes);
        received.with_context(|| self.ended())
    }

    fn ended(&self) -> String {
        format!("{} has ended; what it said stands above", self.program)
    }

    /// Processor time that all threads of the process have used, in seconds, where Linux tells.
    pub(super) fn processor_seconds(&self) -> Option<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let mut nanoseconds = 0;
        for thread in threads {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(nanoseconds as f64 / 1e9)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends when nothing more can come; one that has failed has ended already.
        self.requests = None;
        let _ = self.child.wait();
    }
}
