;; Imports a function by itself.
(component
  {{types}}
  (import "exit" (func $exit (param "status" u32)))
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
)
