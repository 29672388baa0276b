//! How settings are written in a job: each has a name in its group, a form, and a meaning. The tables are made where the settings
//! are declared, so none can be forgotten.

use super::Limit;

/// How a setting is written in a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole number between these bounds.
    Int(u64, u64),
    /// A [`Limit`].
    Limit,
    /// Yes or no.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Several texts.
    Texts,
}

impl Form {
    /// Returns the form of a number with the bounds `[least, most]`, if there are such.
    pub(super) const fn within(self, bounds: &[u64]) -> Form {
        match (self, bounds) {
            (Form::Int(..), [least, most]) => Form::Int(*least, *most),
            _ => self,
        }
    }
}

/// A setting that a job may write.
#[derive(Clone, Copy, Debug)]
pub struct SettingField {
    /// Its name in its group.
    pub name: &'static str,
    /// How it is written.
    pub form: Form,
    /// What it means.
    pub doc: &'static str,
}

/// A value that a job may write as a text or several.
pub(super) trait Setting: Sized {
    const FORM: Form;
    fn read(written: &[&str]) -> Result<Self, String>;
    fn write(&self) -> String;
}

macro_rules! whole_numbers {
    ($($type:ty, $most:literal;)*) => {$(
        impl Setting for $type {
            const FORM: Form = Form::Int(0, $most);
            fn read(written: &[&str]) -> Result<Self, String> {
                written.concat().trim().parse().map_err(|_| "it is a whole number".to_owned())
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers! {
    u8, 255;
    i32, 2_147_483_647;
    u32, 1_000_000;
    // A hundred years, where it is milliseconds.
    i64, 3_153_600_000_000;
    u64, 3_153_600_000_000;
}

impl Setting for Limit {
    const FORM: Form = Form::Limit;
    fn read(written: &[&str]) -> Result<Self, String> {
        Limit::parse(&written.concat()).ok_or_else(|| "a limit is a number of ms, or `<` and one".to_owned())
    }
    fn write(&self) -> String {
        match self.us.rem_euclid(1000) {
            0 => (self.us / 1000).to_string(),
            _ => format!("<{}", self.us.div_euclid(1000) + 1),
        }
    }
}

impl Setting for bool {
    const FORM: Form = Form::Flag;
    fn read(written: &[&str]) -> Result<Self, String> {
        written.concat().parse().map_err(|_| "it is `true` or `false`".to_owned())
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for Vec<String> {
    const FORM: Form = Form::Texts;
    fn read(written: &[&str]) -> Result<Self, String> {
        Ok(written.iter().map(|text| (*text).to_owned()).collect())
    }
    fn write(&self) -> String {
        self.join(", ")
    }
}

macro_rules! words {
    ($type:ident: $($variant:ident $word:literal),*) => {
        impl Setting for $type {
            const FORM: Form = Form::Word(&[$($word),*]);
            fn read(written: &[&str]) -> Result<Self, String> {
                match written.concat().trim() {
                    $($word => Ok($type::$variant),)*
                    _ => Err(concat!("it is one of", $(" `", $word, "`"),*).to_owned()),
                }
            }
            fn write(&self) -> String {
                match self { $($type::$variant => $word,)* }.to_owned()
            }
        }
    };
}

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident {
        $($(#[doc = $field_doc:literal])* $field:ident: $type:ty = $value:expr $(=> ($least:literal, $most:literal))?,)*
    } $(beside {
        $($(#[doc = $other_doc:literal])* $other:ident: $other_type:ty = $other_value:expr,)*
    })?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
            $($($(#[doc = $other_doc])* pub $other: $other_type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $value,)* $($($other: $other_value,)*)? }
            }
        }

        impl $name {
            /// What a job may write.
            pub const FIELDS: &'static [SettingField] = &[$(SettingField {
                name: stringify!($field),
                form: <$type as Setting>::FORM.within(&[$($least, $most)?]),
                doc: concat!($($field_doc),*),
            },)*];

            fn set(&mut self, name: &str, written: &[&str]) -> Result<(), String> {
                match name {
                    $(stringify!($field) => self.$field = Setting::read(written)?,)*
                    _ => return Err(format!("there is no setting `{name}`")),
                }
                Ok(())
            }

            fn get(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($field) => Some(self.$field.write()),)*
                    _ => None,
                }
            }
        }
    };
}

macro_rules! groups {
    ($($group:literal $type:ident $($path:ident).+;)*) => {
        impl Settings {
            /// The groups of settings.
            pub const GROUPS: &'static [&'static str] = &[$($group,)*];

            /// Returns the settings of a group.
            pub fn fields(group: &str) -> &'static [SettingField] {
                match group {
                    $($group => $type::FIELDS,)*
                    _ => &[],
                }
            }

            /// Sets what a job writes as `name` of `group`, or says why it cannot be set.
            pub fn set(&mut self, group: &str, name: &str, written: &[&str]) -> Result<(), String> {
                match group {
                    $($group => self.$($path).+.set(name, written),)*
                    _ => Err(format!("there are no settings `{group}`")),
                }
            }

            /// Returns a setting as a job would write it.
            pub fn get(&self, group: &str, name: &str) -> Option<String> {
                match group {
                    $($group => self.$($path).+.get(name),)*
                    _ => None,
                }
            }
        }
    };
}
