//! Puts all faults of a list of cargo-mutants into one program, each behind a switch, so that it is built once and not a
//! thousand times: `if crate::mutants::on(7) { a < b } else { a <= b }`.
//!
//! usage: mutants LIST LEFT_OUT FROM TO: the list as `cargo mutants --list --json` writes it; a file with the numbers of
//! those that do not compile; the tree that is read, and the one into which the changed files go. The numbers are the places
//! in the list, from 1 on. Those for which there is no place, as a `let` in a condition, are printed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use proc_macro2::Span;
use quote::ToTokens;
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Arm, BinOp, Block, Expr, ExprStruct, ImplItemFn, ItemFn, Signature, Stmt, parse_quote};

/// A line and a column, both from 1 on.
type Place = (usize, usize);

/// A fault: its number, what kind of place it is in, and what stands there instead.
#[derive(Clone)]
struct Fault {
    number: u32,
    genre: String,
    replacement: String,
}

/// The faults of a file by where they are, and the numbers of those that were put in.
struct File {
    faults: HashMap<Place, Vec<Fault>>,
    done: HashSet<u32>,
}

fn place(span: Span) -> Place {
    let start = span.start();
    (start.line, start.column + 1)
}

fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl File {
    fn take(&mut self, at: Place, genre: &str) -> Vec<Fault> {
        let here = self.faults.get(&at).into_iter().flatten();
        let found: Vec<Fault> = here.filter(|fault| fault.genre == genre).cloned().collect();
        self.done.extend(found.iter().map(|fault| fault.number));
        found
    }

    /// A body answers something else at once. What is called in constants can't ask, and is no constant any more.
    fn switch_body(&mut self, signature: &mut Signature, body: &mut Block, at: Option<Place>) {
        let faults = at.map(|at| self.take(at, "FnValue")).unwrap_or_default();
        let early = faults.iter().map(|Fault { number, replacement, .. }| -> Stmt {
            let value: Expr = syn::parse_str(replacement).expect("an expression");
            parse_quote!(if crate::mutants::on(#number) { return #value; })
        });
        body.stmts.splice(0..0, early.collect::<Vec<Stmt>>());
        if body.to_token_stream().to_string().contains("mutants :: on") {
            signature.constness = None;
        }
    }

    fn switch_operator(&mut self, expression: &mut Expr, at: Place) {
        match expression {
            Expr::Binary(binary) if !has_let(&binary.left) && !has_let(&binary.right) => {
                let (left, right, operator) = (&binary.left, &binary.right, binary.op);
                let faults = self.take(at, "BinaryOperator");
                if faults.is_empty() {
                    return;
                }
                // What is joined in a chain would double at each link if it stood in both branches.
                let single = match faults.as_slice() {
                    [only] => Some((only.number, only.replacement.as_str())),
                    _ => None,
                };
                *expression = match (operator, single) {
                    (BinOp::Or(_), Some((number, "&&"))) => parse_quote!(
                        (if (#left) ^ crate::mutants::on(#number) { !crate::mutants::on(#number) } else { #right })
                    ),
                    (BinOp::And(_), Some((number, "||"))) => parse_quote!(
                        (if (!(#left)) ^ crate::mutants::on(#number) { crate::mutants::on(#number) } else { #right })
                    ),
                    _ => {
                        let as_it_was: Expr = parse_quote!((#left) #operator (#right));
                        faults.iter().fold(as_it_was, |otherwise, fault| {
                            let number = fault.number;
                            let operator: BinOp = syn::parse_str(&fault.replacement).expect("an operator");
                            parse_quote!((if crate::mutants::on(#number) { (#left) #operator (#right) } else { #otherwise }))
                        })
                    }
                };
            }
            Expr::Unary(unary) => {
                let (operator, inner) = (unary.op, &unary.expr);
                if let Some(Fault { number, .. }) = self.take(at, "UnaryOperator").first() {
                    *expression = parse_quote!((if crate::mutants::on(#number) { #inner } else { #operator (#inner) }));
                }
            }
            _ => {}
        }
    }
}

impl VisitMut for File {
    fn visit_impl_item_fn_mut(&mut self, function: &mut ImplItemFn) {
        let at = function.block.stmts.first().map(|first| place(first.span()));
        visit_mut::visit_impl_item_fn_mut(self, function);
        self.switch_body(&mut function.sig, &mut function.block, at);
    }

    fn visit_item_fn_mut(&mut self, function: &mut ItemFn) {
        let at = function.block.stmts.first().map(|first| place(first.span()));
        visit_mut::visit_item_fn_mut(self, function);
        self.switch_body(&mut function.sig, &mut function.block, at);
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        let at = arm.guard.as_ref().map(|(_, guard)| place(guard.span()));
        visit_mut::visit_arm_mut(self, arm);
        if let (Some(at), Some((_, guard))) = (at, &mut arm.guard)
            && !has_let(guard)
        {
            for Fault { number, replacement, .. } in self.take(at, "MatchArmGuard") {
                let as_it_was = guard.clone();
                **guard = match replacement.as_str() {
                    "true" => parse_quote!((crate::mutants::on(#number) || (#as_it_was))),
                    _ => parse_quote!((!crate::mutants::on(#number) && (#as_it_was))),
                };
            }
        }
    }

    fn visit_expr_struct_mut(&mut self, made: &mut ExprStruct) {
        let places: Vec<Place> = made.fields.iter().map(|field| place(field.span())).collect();
        visit_mut::visit_expr_struct_mut(self, made);
        let Some(rest) = made.rest.clone() else { return };
        for (field, at) in made.fields.iter_mut().zip(places) {
            for Fault { number, .. } in self.take(at, "StructField") {
                let (value, member) = (field.expr.clone(), field.member.clone());
                field.colon_token = Some(Default::default());
                field.expr = parse_quote!(if crate::mutants::on(#number) { (#rest).#member } else { #value });
            }
        }
    }

    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        let at = match expression {
            Expr::Binary(binary) => Some(place(binary.op.span())),
            Expr::Unary(unary) => Some(place(unary.op.span())),
            _ => None,
        };
        visit_mut::visit_expr_mut(self, expression);
        if let Some(at) = at {
            self.switch_operator(expression, at);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [list, left_out, from, to] = arguments.as_slice() else {
        panic!("usage: mutants LIST LEFT_OUT FROM TO");
    };
    let list: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(list).expect("a list")).expect("JSON");
    let left_out = fs::read_to_string(left_out).expect("numbers");
    let left_out: HashSet<u32> =
        left_out.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let mut files: BTreeMap<&str, File> = BTreeMap::new();
    for (number, fault) in (1..).zip(&list) {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let at = &fault["span"]["start"];
        let coordinate = |name: &str| at[name].as_u64().expect("a number") as usize;
        let file = files
            .entry(fault["file"].as_str().expect("a path"))
            .or_insert_with(|| File { faults: HashMap::new(), done: HashSet::new() });
        if left_out.contains(&number) {
            // A file that has no other one is written all the same: as it was.
            continue;
        }
        file.faults.entry((coordinate("line"), coordinate("column"))).or_default().push(Fault {
            number,
            genre: text(&fault["genre"]),
            replacement: text(&fault["replacement"]),
        });
    }
    for (path, mut file) in files {
        let text = fs::read_to_string(format!("{from}/{path}")).expect("a source");
        let mut tree = syn::parse_file(&text).expect("Rust");
        file.visit_file_mut(&mut tree);
        fs::write(format!("{to}/{path}"), prettyplease::unparse(&tree)).expect("written");
        let all = file.faults.values().flatten().map(|fault| fault.number);
        all.filter(|number| !file.done.contains(number)).for_each(|number| println!("{number}"));
    }
}
