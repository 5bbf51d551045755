;; Exports both run and evaluate.
(component
  {{types}}
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
  (export "evaluate" (func $run))
)
