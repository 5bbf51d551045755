;; Computes for ever.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32)
      (loop $for-ever (br $for-ever)) (unreachable)))
  {{only_run}}
)
