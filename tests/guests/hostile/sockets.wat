;; Imports sockets.
(component
  {{types}}
  (import "wasi:sockets/instance-network@0.2.0" (instance $sockets
    (export "network" (type $network (sub resource)))
    (export "instance-network" (func (result (own $network))))))
  {{libc}}
  (core module $main' (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32) (unreachable)))
  {{only_run}}
)
