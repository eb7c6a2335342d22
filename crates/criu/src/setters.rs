//! Setters of builders: each takes a value, puts it where it belongs, and gives the builder back.

/// The methods that set what their blocks say, and return `self`.
macro_rules! setters {
    ($(
        $(#[$doc:meta])*
        pub fn $name:ident(mut $this:ident, $value:ident: $type:ty) { $($set:tt)* }
    )*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut $this, $value: $type) -> Self {
                $($set)*
                $this
            }
        )*
    };
}
pub(crate) use setters;
