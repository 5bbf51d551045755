//! The attributes of `cantrip-guest`. Their documentation is there.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Error, FnArg, ItemFn, PatType, Result, ReturnType, Type, parse_macro_input};

/// Makes a function the guest's `run`. See the documentation of `cantrip_guest::main`.
#[proc_macro_attribute]
pub fn main(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(&attributes, item, "main", run)
}

/// Makes a function the guest's `step`. See the documentation of `cantrip_guest::steps`.
#[proc_macro_attribute]
pub fn steps(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(&attributes, item, "steps", step)
}

/// The function stays as it is, so that tests call it; beside it stands what exports it, where there is something to
/// export it to.
fn expand(
    attributes: &TokenStream,
    item: TokenStream,
    name: &str,
    export: fn(&ItemFn) -> Result<Tokens>,
) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    if !attributes.is_empty() {
        let error = Error::new(proc_macro2::Span::call_site(), format!("#[cantrip_guest::{name}] takes no arguments"));
        return error.into_compile_error().into();
    }
    let export = check(&function).and_then(|()| export(&function)).unwrap_or_else(Error::into_compile_error);
    quote!(#function #export).into()
}

fn check(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(Error::new_spanned(
            asyncness,
            "a guest is not async: a gate has answered when its function returns",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a guest's function has no type parameters"));
    }
    if matches!(signature.output, ReturnType::Default) {
        return Err(Error::new_spanned(
            &signature.ident,
            "a guest's function returns a Result: its answer, or a cantrip_guest::Error",
        ));
    }
    Ok(())
}

fn run(function: &ItemFn) -> Result<Tokens> {
    let name = &function.sig.ident;
    let mut parameters = function.sig.inputs.iter();
    let call = match (parameters.next(), parameters.next()) {
        (_, Some(second)) => {
            return Err(Error::new_spanned(second, "a guest's function takes one parameter at most: the intent"));
        }
        (None, None) => quote!(#name()),
        (Some(FnArg::Receiver(receiver)), None) => {
            return Err(Error::new_spanned(receiver, "a guest's function is no method"));
        }
        (Some(FnArg::Typed(parameter)), None) if is_text(parameter) => quote!(#name(intent)),
        (Some(FnArg::Typed(parameter)), None) if is_borrowed_text(parameter) => quote!(#name(&intent)),
        (Some(FnArg::Typed(_)), None) => quote!(#name(::cantrip_guest::__private::parsed(&intent)?)),
    };
    Ok(quote! {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;
            impl ::cantrip_guest::__private::RunExport for Component {
                fn run(intent: ::std::string::String) -> ::std::result::Result<::std::string::String, ::cantrip_guest::__private::WireError> {
                    ::cantrip_guest::__private::answered(|| ::cantrip_guest::__private::answer(#call))
                }
            }
            ::cantrip_guest::__private::export_run!(Component with_types_in ::cantrip_guest::__private::run_world);
        };
    })
}

fn step(function: &ItemFn) -> Result<Tokens> {
    let name = &function.sig.ident;
    if function.sig.inputs.len() != 1 {
        return Err(Error::new_spanned(&function.sig.inputs, "a step takes one parameter: the cantrip_guest::Turn"));
    }
    Ok(quote! {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;
            impl ::cantrip_guest::__private::StepsExport for Component {
                fn step(turn: ::cantrip_guest::__private::WireTurn) -> ::std::result::Result<::cantrip_guest::__private::WireProgress, ::cantrip_guest::__private::WireError> {
                    ::cantrip_guest::__private::stepped(|| ::cantrip_guest::__private::progress(#name(::cantrip_guest::__private::turn(turn))))
                }
            }
            ::cantrip_guest::__private::export_steps!(Component with_types_in ::cantrip_guest::__private::steps_world);
        };
    })
}

fn is_text(parameter: &PatType) -> bool {
    matches!(&*parameter.ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "String"))
}

fn is_borrowed_text(parameter: &PatType) -> bool {
    let Type::Reference(reference) = &*parameter.ty else { return false };
    matches!(&*reference.elem, Type::Path(path) if path.path.is_ident("str"))
}
