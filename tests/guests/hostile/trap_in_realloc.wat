;; Breaks down where the host asks for room.
(component
  {{types}}
  (core module $libc'
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (unreachable)))
  (core instance $libc (instantiate $libc'))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
)
