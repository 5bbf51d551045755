;; Returns a text of four GiB less one byte.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32)
      (i32.store (i32.const 1028) (i32.const 0))
      (i32.store (i32.const 1032) (i32.const -1))
      (i32.const 1024)))
  {{only_run}}
)
