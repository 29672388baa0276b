//! Models: how the credit for a conversion is divided among the touches of its window (DOMAIN 5.5).

use super::touches::Touch;

/// The whole credit of a conversion, in millionths.
pub const WHOLE_PPM: i64 = 1_000_000;

/// How credit is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// All to the greatest touch in per-key order.
    LastTouch,
    /// All to the smallest touch in per-key order.
    FirstTouch,
}

/// Credit for one touch of a conversion's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    pub touch: Touch,
    pub weight_ppm: i64,
}

impl Model {
    /// All models.
    pub const ALL: [Model; 2] = [Model::LastTouch, Model::FirstTouch];

    /// Returns the name by which a job file and the column `model` know it.
    pub const fn name(self) -> &'static str {
        match self {
            Model::LastTouch => "last_touch",
            Model::FirstTouch => "first_touch",
        }
    }

    /// Returns the model of a name.
    pub fn named(name: &str) -> Option<Model> {
        Model::ALL.into_iter().find(|model| model.name() == name)
    }

    /// Divides the credit of one conversion among `window`, the touches of its window in per-key order. The weights given
    /// sum up to [`WHOLE_PPM`], unless there is no touch.
    pub(super) fn divide(self, window: &[Touch], credits: &mut Vec<Credit>) {
        let one = match self {
            Model::LastTouch => window.last(),
            Model::FirstTouch => window.first(),
        };
        credits.extend(one.map(|touch| Credit { touch: *touch, weight_ppm: WHOLE_PPM }));
    }
}
