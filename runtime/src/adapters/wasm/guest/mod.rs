//! Guests: cantrips and media that somebody wrote as WebAssembly components.
//!
//! Owns their reading, compiling and linking, their instances and the shelf they are kept on. A guest gets the gates of its
//! circle as typed imports, and of WASI what `wasi` lists. Whether it may run is decided above, from its manifest; what
//! the circle does not hold is not linked besides.

mod bulk;
mod convert;
mod floor;
mod imports;
mod instance;
mod loaded;
mod manifest;
mod shelf;
mod state;
mod wasi;

pub use floor::Floor;
pub use loaded::Guests;
pub use manifest::GuestError;
pub use shelf::{Shelf, ShelfError, Shelved, read_file as read_guest_file};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "cantrip:guest/imports",
        imports: { default: async | trappable },
        with: {
            "cantrip:guest/read-file.reader": super::state::Reader,
            "cantrip:guest/cast.cantrip": super::state::Proposal,
        },
        require_store_data_send: true,
    });
}

/// The types of the worlds' own functions.
mod worlds {
    pub(super) mod steps {
        use wasmtime::component::{ComponentType, Lift, Lower};

        #[derive(Debug, Clone, ComponentType, Lower)]
        #[component(record)]
        pub(crate) struct Turn {
            pub(crate) number: u64,
            pub(crate) intent: String,
            pub(crate) heard: Vec<String>,
        }

        #[derive(Debug, Clone, ComponentType, Lift)]
        #[component(variant)]
        pub(crate) enum Progress {
            #[component(name = "more")]
            More,
            #[component(name = "finished")]
            Finished(String),
        }
    }

    pub(super) mod medium {
        use wasmtime::component::{ComponentType, Lift};

        #[derive(Debug, Clone, ComponentType, Lift)]
        #[component(record)]
        #[expect(clippy::struct_field_names, reason = "the names are those of the WIT")]
        pub(crate) struct Value {
            pub(crate) value: Option<String>,
            pub(crate) text: String,
            pub(crate) kind: String,
        }

        #[derive(Debug, Clone, ComponentType, Lift)]
        #[component(record)]
        pub(crate) struct Thrown {
            pub(crate) name: String,
            pub(crate) message: String,
            pub(crate) trace: String,
        }
    }
}
