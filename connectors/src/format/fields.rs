//! Where the fields of a record go: a tree of the paths of all decoded columns.

use super::rows::Rows;

/// The tree; node 0 is the record itself.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The fields of each object in use.
    pub(crate) nodes: Vec<Vec<Field>>,
}

/// A field in use.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: String,
    /// The slots that take its value.
    pub(crate) slots: Vec<usize>,
    /// The node of the fields within it.
    pub(crate) child: Option<usize>,
    /// All slots that depend on it, within it included.
    pub(crate) under: Vec<usize>,
}

impl Fields {
    /// Returns the tree of the slots of `rows`.
    pub(crate) fn of(rows: &Rows) -> Fields {
        let mut fields = Fields { nodes: vec![Vec::new()] };
        for (slot, column) in rows.slots.iter().map(|slot| &slot.column).enumerate() {
            if column.meta.is_none() {
                fields.add(slot, &column.path);
            }
        }
        fields
    }

    fn add(&mut self, slot: usize, path: &[String]) {
        let mut node = 0;
        for (depth, name) in path.iter().enumerate() {
            let index = self.field(node, name);
            self.nodes[node][index].under.push(slot);
            if depth + 1 == path.len() {
                self.nodes[node][index].slots.push(slot);
                return;
            }
            let next = self.nodes.len();
            let child = *self.nodes[node][index].child.get_or_insert(next);
            if child == next {
                self.nodes.push(Vec::new());
            }
            node = child;
        }
    }

    fn field(&mut self, node: usize, name: &str) -> usize {
        let fields = &mut self.nodes[node];
        if let Some(index) = fields.iter().position(|field| field.name == name) {
            return index;
        }
        fields.push(Field { name: name.to_owned(), slots: Vec::new(), child: None, under: Vec::new() });
        fields.len() - 1
    }

    /// Returns the index of the field `name` of `node`. Looks at `hint` first: records repeat their order.
    pub(crate) fn find(&self, node: usize, name: &str, hint: usize) -> Option<usize> {
        let fields = &self.nodes[node];
        let hint = hint.min(fields.len());
        let (before, after) = fields.split_at(hint);
        let ahead = after.iter().position(|field| field.name == name).map(|index| hint + index);
        ahead.or_else(|| before.iter().position(|field| field.name == name))
    }
}
