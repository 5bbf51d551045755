;; Makes resources of the host and lets none of them go.
(component
  {{types}}
  (import "cantrip:guest/read-file@0.1.0" (instance $read-file
    (export "reader" (type $reader (sub resource)))
    (export "[constructor]reader" (func (param "path" string) (param "offset" u64) (param "piece-bytes" u32) (result (own $reader))))))
  {{libc}}
  (core func $new (canon lower (func $read-file "[constructor]reader") (memory $memory) (realloc $realloc)))
  (core instance $gate (export "new" (func $new)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "new" (func $new (param i32 i32 i64 i32) (result i32)))
    (func (export "run") (param i32 i32) (result i32)
      (loop $more (drop (call $new (i32.const 0) (i32.const 4096) (i64.const 0) (i32.const 4))) (br $more))
      (unreachable)))
  {{run}}
)
