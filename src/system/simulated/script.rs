//! What a process has been told so far: its calls and their answers.
//!
//! A search keeps very many scripts that have their beginnings in common, so a script is a chain from its last line to
//! its first, and copies share it.

use std::any::Any;
use std::sync::Arc;

use super::calls::Answer;

/// All calls of a process so far, each with its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(Option<Arc<Page>>);

/// One call and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    verb: &'static str,
    answer: Answer<Arc<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
struct Page {
    line: Line,
    before: Option<Arc<Page>>,
}

impl Script {
    pub(crate) fn push(&mut self, line: Line) {
        self.0 = Some(Arc::new(Page { line, before: self.0.take() }));
    }

    /// The lines, the first one first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut page = self.0.as_ref();
        while let Some(here) = page {
            lines.push(here.line.clone());
            page = here.before.as_ref();
        }
        lines.reverse();
        lines
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A long chain would be dropped by as deep a recursion.
        let mut before = self.before.take();
        while let Some(mut page) = before.and_then(Arc::into_inner) {
            before = page.before.take();
        }
    }
}

impl Line {
    pub(crate) fn new<T: Clone + Send + Sync + 'static>(verb: &'static str, answer: &Answer<T>) -> Self {
        Self { verb, answer: answer.clone().map(|told| Arc::new(told) as _) }
    }

    /// The answer, if this was the call. Only the verb is compared, for this is done very often.
    pub(crate) fn repeat<T: Clone + 'static>(&self, verb: &'static str) -> Option<Answer<T>> {
        match &self.answer {
            _ if self.verb != verb => None,
            Ok(answer) => answer.downcast_ref::<T>().cloned().map(Ok),
            Err(error) => Some(Err(*error)),
        }
    }
}
