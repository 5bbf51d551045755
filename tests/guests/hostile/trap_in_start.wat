;; Breaks down before anybody has called it.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func $start (unreachable))
    (start $start)
    (func (export "run") (param i32 i32) (result i32)
      (unreachable)))
  {{only_run}}
)
