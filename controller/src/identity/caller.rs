//! Who makes a call, and what it was found to touch.

use super::Token;
use longshore_common::{access::Role, ids::AgentId};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Targets named in one line of the audit log.
const NAMED: usize = 20;

#[derive(Clone, Debug)]
pub enum Who {
    Nobody,
    Token(Token),
    Agent(AgentId),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Token(token) => write!(f, "token {}", token.name),
            Self::Agent(id) => write!(f, "agent {id}"),
        }
    }
}

/// Goes with a call to its handler. Cheap to clone; all clones note to the same line.
#[derive(Clone, Debug)]
pub struct Caller {
    who: Arc<Who>,
    /// The one project whose things are there for this call; `None`: all.
    scope: Option<Arc<str>>,
    note: Arc<Mutex<Note>>,
}

/// For the audit log.
#[derive(Clone, Debug, Default)]
pub struct Note {
    pub project: String,
    /// The first few.
    pub targets: Vec<String>,
    pub count: u32,
    /// The first thing of the call that was denied, where the call as a whole was not.
    pub denied: Option<String>,
}

impl Caller {
    pub fn new(who: Who, scope: Option<&str>) -> Self {
        let project = scope.unwrap_or_default().to_owned();
        let note = Arc::new(Mutex::new(Note { project, ..Note::default() }));
        Self { who: Arc::new(who), scope: scope.map(Arc::from), note }
    }

    pub fn who(&self) -> &Who {
        &self.who
    }

    pub fn agent(&self) -> Option<AgentId> {
        match &*self.who {
            Who::Agent(id) => Some(*id),
            Who::Nobody | Who::Token(_) => None,
        }
    }

    /// `None`: it may nothing that needs a role.
    pub fn role(&self) -> Option<Role> {
        match &*self.who {
            Who::Token(token) => Some(token.role),
            Who::Nobody | Who::Agent(_) => None,
        }
    }

    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Whether things of this project are there for the call.
    pub fn sees(&self, project: &str) -> bool {
        self.scope().is_none_or(|scope| scope == project)
    }

    /// Whether it is of one project whatever it asks for: no word on the cluster's own machines is for it.
    pub fn is_bound(&self) -> bool {
        match &*self.who {
            Who::Token(token) => token.project.is_some(),
            Who::Nobody | Who::Agent(_) => true,
        }
    }

    /// What the call is about.
    pub fn touches(&self, target: impl ToString) {
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        note.count = note.count.saturating_add(1);
        if note.targets.len() < NAMED {
            note.targets.push(target.to_string());
        }
    }

    pub fn touches_project(&self, project: &str) {
        project.clone_into(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner).project);
    }

    /// Part of the call was denied.
    pub fn note_denial(&self, message: &str) {
        let mut note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        note.denied.get_or_insert_with(|| message.to_owned());
    }

    pub fn was_denied(&self) -> bool {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).denied.is_some()
    }

    pub fn note(&self) -> Note {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
