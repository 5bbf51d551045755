;; Returns thirty MiB of JSON.
(component
  {{types}}
  {{libc}}
  (core module $main'
    (import "libc" "memory" (memory 1))
    (func (export "run") (param i32 i32) (result i32)
      (drop (memory.grow (i32.const 500)))
      (memory.fill (i32.const 65536) (i32.const 32) (i32.const 31457280))
      (i32.store8 (i32.const 65536) (i32.const 49))
      (i32.store (i32.const 1028) (i32.const 65536))
      (i32.store (i32.const 1032) (i32.const 31457280))
      (i32.const 1024)))
  {{only_run}}
)
