//! Models: how much of an order each touch of its path is given.

use serde::{Deserialize, Serialize};

use super::decay;

/// How credit is divided among the touches of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All to the first touch.
    FirstTouch,
    /// All to the last touch.
    LastTouch,
    /// All to the last touch that is not direct; to the last one if all are.
    LastNonDirect,
    /// The same to each.
    Linear,
    /// 40 % to the first, 40 % to the last, the rest evenly to those between; of two touches half to each.
    PositionBased,
    /// Half as much for every half-life of age.
    TimeDecay,
}

impl Model {
    /// All models, in the order of their names' introduction here.
    pub const ALL: [Model; 6] = [
        Model::FirstTouch,
        Model::LastTouch,
        Model::LastNonDirect,
        Model::Linear,
        Model::PositionBased,
        Model::TimeDecay,
    ];
}

/// What a model looks at in a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time from the touch to the order.
    pub age_ms: i64,
    /// Whether nobody sent the visitor.
    pub is_direct: bool,
}

impl Model {
    /// Returns the weight of each touch of a path, first touch first. Only their proportions count; their sum is positive unless
    /// the path is empty.
    pub fn weights(self, path: &[Step], half_life_ms: i64) -> Vec<u64> {
        let count = path.len();
        let all_to = |winner: usize| (0..count).map(|at| u64::from(at == winner)).collect();
        let last = count.saturating_sub(1);
        match self {
            Model::FirstTouch => all_to(0),
            Model::LastTouch => all_to(last),
            Model::LastNonDirect => all_to(path.iter().rposition(|step| !step.is_direct).unwrap_or(last)),
            Model::Linear => vec![1; count],
            Model::PositionBased if count <= 2 => vec![1; count],
            // 0.4 is to 0.2 / (n - 2) as 2 (n - 2) is to 1.
            Model::PositionBased => {
                let ends = 2 * (count as u64 - 2);
                (0..count).map(|at| if at == 0 || at == last { ends } else { 1 }).collect()
            }
            Model::TimeDecay => path.iter().map(|step| decay::weight(step.age_ms, half_life_ms)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::split::split;

    fn path(count: usize) -> Vec<Step> {
        vec![Step { age_ms: 0, is_direct: false }; count]
    }

    #[track_caller]
    fn check(model: Model, count: usize, amount: i64, expected: &[i64]) {
        assert_eq!(split(amount, &model.weights(&path(count), 1)), expected);
    }

    /// G-B7
    #[test]
    fn g_b7_a_touch_may_lose_a_unit_although_the_order_grew() {
        check(Model::PositionBased, 4, 3, &[1, 1, 0, 1]);
        check(Model::PositionBased, 4, 4, &[2, 0, 0, 2]);
    }

    /// G-B8
    #[test]
    fn g_b8_money_is_divided_to_the_cent() {
        check(Model::Linear, 3, 10_000, &[3_334, 3_333, 3_333]);
        check(Model::PositionBased, 4, 100, &[40, 10, 10, 40]);
        check(Model::PositionBased, 3, 999, &[400, 200, 399]);
    }

    #[test]
    fn one_touch_has_it_all_in_every_model() {
        for model in Model::ALL {
            check(model, 1, 777, &[777]);
            assert!(model.weights(&[], 1).is_empty());
        }
    }

    #[test]
    fn of_two_touches_a_position_gives_half_to_each() {
        check(Model::PositionBased, 2, 100, &[50, 50]);
    }

    /// G-B12
    #[test]
    fn g_b12_direct_touches_are_passed_over_unless_there_are_no_others() {
        let steps = |direct: &[bool]| -> Vec<Step> {
            direct.iter().map(|is_direct| Step { age_ms: 0, is_direct: *is_direct }).collect()
        };
        let mixed = steps(&[false, false, true, true]);
        assert_eq!(Model::LastTouch.weights(&mixed, 1), [0, 0, 0, 1]);
        assert_eq!(Model::LastNonDirect.weights(&mixed, 1), [0, 1, 0, 0]);
        assert_eq!(Model::LastNonDirect.weights(&steps(&[true, true]), 1), [0, 1]);
    }
}
