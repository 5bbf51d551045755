;; Runs a start function of the component itself.
(component
  {{types}}
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "go"))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  (core instance $main (instantiate $main' (with "libc" (instance $libc))))
  (func $go (canon lift (core func $main "go")))
  (start $go)
  (alias core export $main "run" (core func $run'))
  (func $run (param "intent" string) (result (result string (error $error)))
    (canon lift (core func $run') (memory $memory) (realloc $realloc)))
  (export "run" (func $run))
)
