//! What names mean to the sessions of a worker: one view for each path, role and database that they have at the same time.

use std::rc::Rc;
use std::sync::Arc;

use crate::schemas::{Snapshot, View};

/// Views that a worker keeps: one for each path, role and database that its clients have at the same time.
const VIEWS: usize = 256;

/// The views of a worker's clients.
#[derive(Debug, Default)]
pub(super) struct Views(Vec<Known>);

#[derive(Debug)]
struct Known {
    user: Box<str>,
    role: Box<str>,
    path: Option<Box<str>>,
    view: Rc<View>,
}

impl Views {
    pub(super) fn get(
        &mut self,
        snapshot: &Arc<Snapshot>,
        (user, role): (&str, &str),
        path: Option<&str>,
    ) -> Rc<View> {
        let same = |known: &&Known| {
            Arc::ptr_eq(known.view.snapshot(), snapshot)
                && *known.user == *user
                && *known.role == *role
                && known.path.as_deref() == path
        };
        if let Some(known) = self.0.iter().find(same) {
            return Rc::clone(&known.view);
        }
        // Those of older snapshots are nobody's any more.
        self.0.retain(|known| Rc::strong_count(&known.view) > 1);
        if self.0.len() >= VIEWS {
            self.0.clear();
        }
        let view = Rc::new(View::new(Arc::clone(snapshot), user, role, path));
        let [user_name, role_name] = [user, role].map(Box::from);
        let path = path.map(Box::from);
        self.0.push(Known { user: user_name, role: role_name, path, view: Rc::clone(&view) });
        view
    }
}
