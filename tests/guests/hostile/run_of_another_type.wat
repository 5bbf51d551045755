;; Exports a run that takes a number.
(component
  {{types}}
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32) (result i32) (unreachable)))
  (core instance $main (instantiate $main' (with "libc" (instance $libc))))
  (alias core export $main "run" (core func $run'))
  (func $run (param "intent" u32) (result u32) (canon lift (core func $run')))
  (export "run" (func $run))
)
